"""What some architectures do to the output of their head."""

from __future__ import annotations

from typing import Any

import torch


class OuterHead:
    """What a model does to its head's output: scaling (Granite, Cohere) and soft capping (Gemma 2)."""

    def __init__(self, divide: float = 1.0, softcap: float | None = None) -> None:
        self.divide = divide
        self.softcap = softcap

    @classmethod
    def of(cls, config: Any) -> OuterHead:
        """Read both from a transformers configuration."""
        softcap = getattr(config, "final_logit_softcapping", None)
        divide = float(getattr(config, "logits_scaling", None) or 1.0)
        return cls(divide / float(getattr(config, "logit_scale", None) or 1.0), softcap)

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Apply to logits [T, V]."""
        if self.divide != 1.0:
            logits = logits / self.divide
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits

    def as_dict(self) -> dict[str, Any]:
        """JSON form, kept beside the hidden states."""
        return {"divide": self.divide, "softcap": self.softcap}
