"""Attention and feed-forward network side by side, both of the normed stream: StableLM, Phi, and in modules of
their own Cohere and GPT-NeoX. A configuration of StableLM or GPT-NeoX may have them one after the other.
"""

from __future__ import annotations

from typing import Any

from edgepeft_exporters.decoder.families import two_layer
from edgepeft_exporters.decoder.families.norms import norm_heads


class Graph(two_layer.Graph):
    """The builder's model with layers whose two parts are added to the stream at once."""

    def make_attention_init(self, config: Any) -> None:
        """As the builder's, with norms of queries and keys where the configuration has them."""
        normed = any(getattr(config, key, False) for key in ("qk_layernorm", "use_qk_norm"))
        self.attention_attrs["q_norm"] = self.attention_attrs["k_norm"] = normed
        super().make_attention_init(config)

    def make_qk_norm(self, layer_id: int, attention: Any) -> None:
        """Norms of each head of queries and keys."""
        for part in ("q", "k"):
            norm = getattr(attention, f"{part}_layernorm", None) or getattr(
                attention, f"{part}_norm"
            )
            norm_heads(self, layer_id, part, norm)

    def make_layer(self, layer_id: int, layer: Any) -> None:
        """norm, attention, and beside it the feed-forward network, behind a norm of its own where it has one."""
        if not getattr(layer, "use_parallel_residual", True):
            super().make_layer(layer_id, layer)
            return
        attributes = self.layernorm_attrs
        simple, skip = attributes["simple"], not attributes["first_layernorm"]
        norm = layer.input_layernorm
        self.make_layernorm(layer_id, norm, skip=skip, simple=simple, location="input")
        normed = attributes["output_0"]
        self.make_attention(layer_id, self.get_attn_module(layer_id, layer), root_input=normed)
        attended = attributes["skip_input"]
        if (own := getattr(layer, "post_attention_layernorm", None)) is not None:
            self.make_layernorm(layer_id, own, skip=False, simple=simple, location="post_attention")
            normed = attributes["output_0"]
        self.make_mlp(layer_id, layer.mlp, root_input=normed)
        name = f"/model/layers.{layer_id}/parallel/Add"
        inputs = [attended, attributes["skip_input"]]
        self.make_add(name, inputs, dtype=self.io_dtype, shape=self.make_hidden_state_shape())
        attributes["skip_input"] = f"{name}/output_0"
        attributes["first_layernorm"] = False
        # The final norm adds what the last layer leaves.
        attributes["last_layernorm"] = layer_id == self.num_layers - 1
