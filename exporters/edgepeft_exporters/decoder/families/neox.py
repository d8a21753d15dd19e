"""GPT-NeoX (https://arxiv.org/abs/2204.06745), and Pythia: query, key and value of each head lie together."""

from __future__ import annotations

from typing import Any

import torch

from edgepeft.checkpoints.skeleton import final_norm
from edgepeft_exporters.decoder.families import parallel


class Graph(parallel.Graph):
    """Parallel layers under the names of GPT-NeoX."""

    def is_layer(self, module: Any) -> bool:
        """Whether a module is a layer."""
        return type(module).__name__ == "GPTNeoXLayer"

    def has_final_norm(self, module: Any, orig_model: Any) -> bool:
        """Whether a module is the norm before the head."""
        return module is final_norm(orig_model.get_decoder())

    def get_attn_module(self, layer_id: int, layer: Any) -> Any:
        """A layer's attention."""
        return layer.attention

    def make_attention_unpacked(
        self, layer_id: int, attention: Any, root_input: str, **kwargs: Any
    ) -> None:
        """Take query, key and value of all heads out of the one product that holds them head by head."""
        fused, size = attention.query_key_value, self.head_size
        weights = fused.weight.unflatten(0, (-1, 3, size))
        biases = None if fused.bias is None else fused.bias.unflatten(0, (-1, 3, size))
        for index, name in enumerate(("q_proj", "k_proj", "v_proj")):
            part = torch.nn.Linear(1, 1)
            part.weight = _fixed(weights[:, index].flatten(0, 1))
            part.bias = None if biases is None else _fixed(biases[:, index].flatten())
            setattr(attention, name, part)


def _fixed(tensor: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(tensor, requires_grad=False)
