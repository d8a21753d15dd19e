"""What some architectures do to the output of their head."""

from __future__ import annotations

from typing import Any

import torch


class OuterHead:
    """What a model does to its head's product: bias (Phi), scaling (Granite, Cohere), soft capping (Gemma 2)."""

    def __init__(
        self,
        divide: float = 1.0,
        softcap: float | None = None,
        bias: torch.Tensor | None = None,
    ) -> None:
        """``bias`` is float32 [V]."""
        self.divide = divide
        self.softcap = softcap
        self.bias = bias

    @classmethod
    def of(cls, config: Any, bias: torch.Tensor | None = None) -> OuterHead:
        """Read scaling and capping from a transformers configuration."""
        softcap = getattr(config, "final_logit_softcapping", None)
        divide = float(getattr(config, "logits_scaling", None) or 1.0)
        return cls(divide / float(getattr(config, "logit_scale", None) or 1.0), softcap, bias)

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Apply to logits [T, V]."""
        if self.bias is not None:
            logits = logits + self.bias
        if self.divide != 1.0:
            logits = logits / self.divide
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits

    def as_dict(self) -> dict[str, Any]:
        """JSON form of the numbers, kept beside the hidden states; the bias is kept among those."""
        return {"divide": self.divide, "softcap": self.softcap}
