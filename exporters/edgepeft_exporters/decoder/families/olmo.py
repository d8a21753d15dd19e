"""OLMo 2 and 3 (https://arxiv.org/abs/2501.00656): norms behind attention and feed-forward network instead of
before them, and of queries and keys whole, not head by head.
"""

from __future__ import annotations

from typing import Any

from edgepeft_exporters.decoder.families.norms import norm_behind
from edgepeft_exporters.decoder.families.rotary import ModelRotary


class Graph(ModelRotary):
    """The builder's model with the layers of OLMo 2 and 3."""

    def make_attention_init(self, config: Any) -> None:
        """As the builder's, with norms of queries and keys."""
        self.attention_attrs["q_norm"] = self.attention_attrs["k_norm"] = True
        super().make_attention_init(config)

    def make_qk_norm(self, layer_id: int, attention: Any) -> None:
        """Norms of all heads of the queries together, and of the keys."""
        parts = (("q", attention.q_norm, self.q_size), ("k", attention.k_norm, self.kv_size))
        for part, norm, width in parts:
            name = f"/model/layers.{layer_id}/attn/{part}_norm/SimplifiedLayerNormalization"
            path, weight = f"{part}_path", f"model.layers.{layer_id}.attn.{part}_norm.weight"
            self.make_initializer(norm.weight, weight, to=self.io_dtype)
            self.make_node(
                "SimplifiedLayerNormalization",
                inputs=[self.attention_attrs[path], weight],
                outputs=[f"{name}/output_0"],
                name=name,
                epsilon=self.layernorm_attrs["epsilon"],
                axis=-1,
                stash_type=1,
            )
            self.make_value(
                f"{name}/output_0",
                self.io_dtype,
                shape=["batch_size", "sequence_length", width],
            )
            self.attention_attrs[path] = f"{name}/output_0"

    def make_layer(self, layer_id: int, layer: Any) -> None:
        """attention, norm, added to what came in; feed-forward network, norm, added; no norm before either."""
        stem = f"/model/layers.{layer_id}"
        if not self.layernorm_attrs["first_layernorm"]:
            self._add(f"{stem}/input/Add")
        self.make_attention(layer_id, layer.self_attn, self.layernorm_attrs["root_input"])
        norm_behind(self, layer_id, layer.post_attention_layernorm, "post_attention")
        self._add(f"{stem}/attn/Add")
        self.make_mlp(layer_id, layer.mlp, root_input=self.layernorm_attrs["root_input"])
        norm_behind(self, layer_id, layer.post_feedforward_layernorm, "post_feedforward")
        self.layernorm_attrs["first_layernorm"] = False
        # The final norm adds what the last layer leaves.
        self.layernorm_attrs["last_layernorm"] = layer_id == self.num_layers - 1

    def _add(self, name: str) -> None:
        """Add what is to be added to the stream."""
        inputs = [self.layernorm_attrs["root_input"], self.layernorm_attrs["skip_input"]]
        self.make_add(name, inputs, dtype=self.io_dtype, shape=self.make_hidden_state_shape())
        self.layernorm_attrs["root_input"] = f"{name}/output_0"
