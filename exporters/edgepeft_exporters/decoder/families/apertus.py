"""Apertus (https://arxiv.org/abs/2509.14233): norms of each head of queries and keys, and a feed-forward network
without a gate whose activation xIELU (https://arxiv.org/abs/2411.13010) has two learned numbers in each layer.
"""

from __future__ import annotations

from typing import Any

from edgepeft_exporters.decoder.families import two_layer


class Graph(two_layer.Graph):
    """The builder's model with Apertus' attention and activation."""

    def make_attention_init(self, config: Any) -> None:
        """As the builder's, with norms of queries and keys."""
        self.attention_attrs["q_norm"] = self.attention_attrs["k_norm"] = True
        super().make_attention_init(config)

    def make_layer(self, layer_id: int, layer: Any) -> None:
        """As the builder's, whose names of the two norms are others."""
        layer.input_layernorm = layer.attention_layernorm
        layer.post_attention_layernorm = layer.feedforward_layernorm
        super().make_layer(layer_id, layer)

    def make_mlp(self, layer_id: int, mlp: Any, root_input: str) -> None:
        """Remember the activation's numbers for when it is made."""
        self._act = mlp.act_fn
        super().make_mlp(layer_id, mlp, root_input)

    def make_activation(self, layer_id: int, root_input: str) -> str:
        """xIELU of the inner states [B, T, I]; the name of its last node.

        With b a constant and p and n learned: b x + p x² above zero, b x + n (eˣ - 1 - x) below. ReLU and ELU
        are each zero on the other's side, once x is taken off the latter.
        """
        if self.activation != "xielu":
            return str(super().make_activation(layer_id, root_input))
        stem, constants = f"/model/layers.{layer_id}/mlp/act_fn", "/model/constants"
        shape = self.make_hidden_state_shape(last_dim=self.intermediate_size)
        beta = f"{constants}/{self.to_str_dtype(self.io_dtype)}/{float(self._act.beta)}"

        def node(operator: str, *inputs: str, name: str | None = None) -> str:
            made = f"{stem}/{name or operator}"
            self.make_node(operator, list(inputs), [f"{made}/output_0"], name=made)
            self.make_value(f"{made}/output_0", self.io_dtype, shape=shape)
            return f"{made}/output_0"

        above = node("Relu", root_input)
        above = node("Mul", above, above, name="Square")
        below = node("Sub", node("Elu", root_input), root_input)
        scaled = [node("Mul", root_input, beta, name="Linear")]
        for side, value, number, more in (
            ("positive", above, self._act.alpha_p, None),
            ("negative", below, self._act.alpha_n, beta),
        ):
            stored = f"model.layers.{layer_id}.mlp.act_fn.{side}"
            self.make_initializer(number, stored, to=self.io_dtype)
            factor = f"{stem}/{side}/Softplus"
            self.make_softplus(factor, stored, dtype=self.io_dtype, shape=[1])
            if more is not None:
                inputs, factor = [f"{factor}/output_0", more], f"{stem}/{side}/Add"
                self.make_add(factor, inputs, dtype=self.io_dtype, shape=[1])
            scaled.append(node("Mul", value, f"{factor}/output_0", name=f"{side}/Mul"))
        node("Add", scaled[0], scaled[1], name="Sum")
        node("Add", f"{stem}/Sum/output_0", scaled[2], name="xIELU")
        return f"{stem}/xIELU"
