"""GLM and GLM 4: neighbouring numbers of a part of each head are rotated together; GLM 4 has a norm behind
attention and feed-forward network beside the one before each.
"""

from __future__ import annotations

from typing import Any

from edgepeft_exporters.decoder.families.norms import norm_behind
from edgepeft_exporters.decoder.families.rotary import ModelRotary


class Graph(ModelRotary):
    """The builder's model with the layers of GLM and GLM 4."""

    def __init__(self, config: Any, *arguments: Any) -> None:
        super().__init__(config, *arguments)
        self.rope_attrs["interleaved"] = 1

    def make_layer(self, layer_id: int, layer: Any) -> None:
        """As the builder's; in GLM 4 what is added goes through a norm of its own."""
        self._behind = {
            "attn": getattr(layer, "post_self_attn_layernorm", None),
            "mlp": getattr(layer, "post_mlp_layernorm", None),
        }
        super().make_layer(layer_id, layer)

    def make_attention(self, layer_id: int, attention: Any, root_input: str, **kwargs: Any) -> None:
        """The attention of a layer, and the norm behind it."""
        super().make_attention(layer_id, attention, root_input, **kwargs)
        self._norm_behind(layer_id, "attn")

    def make_mlp(self, layer_id: int, mlp: Any, root_input: str) -> None:
        """The feed-forward network of a layer, and the norm behind it."""
        super().make_mlp(layer_id, mlp, root_input)
        self._norm_behind(layer_id, "mlp")

    def _norm_behind(self, layer_id: int, part: str) -> None:
        """Put the norm behind a part, where there is one, before it is added to the stream."""
        if (norm := self._behind[part]) is not None:
            norm_behind(self, layer_id, norm, f"post_{part}")
