"""Feed-forward networks of two layers without a gate: Arcee, Nemotron and StarCoder 2.

The latter two have norms with a mean and a bias (Nemotron's scale is a weight plus one).
"""

from __future__ import annotations

from typing import Any

from edgepeft_exporters.decoder.families.norms import CentredNorms

_LAYERS = (
    *(("c_fc", "c_proj"), ("fc1", "fc2"), ("dense_h_to_4h", "dense_4h_to_h")),
    ("up_proj", "down_proj"),
)
"""What the two layers are called, by family."""


class Graph(CentredNorms):
    """The builder's model with their norms and feed-forward networks."""

    def make_mlp(self, layer_id: int, mlp: Any, root_input: str) -> None:
        """Into the inner width, activated, and back; with a gate where the model has one."""
        if hasattr(mlp, "gate_proj"):
            super().make_mlp(layer_id, mlp, root_input)
            return
        inner, outer = next(pair for pair in _LAYERS if hasattr(mlp, pair[0]))
        mlp.fc1, mlp.fc2 = getattr(mlp, inner), getattr(mlp, outer)
        self.make_mlp_fc(layer_id, mlp, root_input)
        self.layernorm_attrs["skip_input"] = self.mlp_attrs["output_0"]
