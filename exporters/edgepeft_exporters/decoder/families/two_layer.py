"""Feed-forward networks of two layers without a gate: Arcee, Nemotron and StarCoder 2.

The latter two have norms with a mean and a bias (Nemotron's scale is a weight plus one).
"""

from __future__ import annotations

from typing import Any

import torch

from edgepeft_exporters.decoder.families.rotary import ModelRotary


class Graph(ModelRotary):
    """The builder's model with their norms and feed-forward networks."""

    def __init__(self, config: Any, *arguments: Any) -> None:
        super().__init__(config, *arguments)
        norm = self.skeleton.get_decoder().norm
        if isinstance(norm, torch.nn.LayerNorm):
            offset = 1 if type(norm).__name__.endswith("LayerNorm1P") else 0
            self.layernorm_attrs.update(simple=False, epsilon=norm.eps, add_offset=offset)

    def make_mlp(self, layer_id: int, mlp: Any, root_input: str) -> None:
        """Into the inner width, activated, and back."""
        inner = ("c_fc", "c_proj") if hasattr(mlp, "c_fc") else ("up_proj", "down_proj")
        mlp.fc1, mlp.fc2 = (getattr(mlp, name) for name in inner)
        self.make_mlp_fc(layer_id, mlp, root_input)
        self.layernorm_attrs["skip_input"] = self.mlp_attrs["output_0"]
