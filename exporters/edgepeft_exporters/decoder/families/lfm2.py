"""LFM2 (https://arxiv.org/abs/2511.23404): layers of short convolutions between layers of attention.

A convolution sees each channel's last few tokens, gated before and behind. Of what it has read it keeps a state
of a fixed size beside the keys and values of the attention layers.
"""

from __future__ import annotations

from typing import Any

from edgepeft_exporters.decoder.families.rotary import ModelRotary

_PAST, _PRESENT = "past_conv.{}", "present_conv.{}"
"""What transformers.js calls the states; onnxruntime-genai is told it."""


class Graph(ModelRotary):
    """The builder's class, which passes over the biases of the two products around a convolution."""

    def make_inputs_and_outputs(self) -> None:
        """As the builder's, with the states by names that every runtime finds."""
        for names, name in ((self.input_names, _PAST), (self.output_names, _PRESENT)):
            key = name.replace("_conv.{}", ".conv")
            if key in names:
                names[key] = {layer_id: name.format(layer_id) for layer_id in names[key]}
        super().make_inputs_and_outputs()

    def update_genai_config(self, genai_config: dict[str, Any]) -> None:
        """As the builder's, with those names; one that convolves nowhere is like any other decoder."""
        if "past.conv" not in self.input_names:
            genai_config["model"]["type"] = "decoder"
            return
        super().update_genai_config(genai_config)
        decoder = genai_config["model"]["decoder"]
        for side, name in (("inputs", _PAST), ("outputs", _PRESENT)):
            key = f"{name.removesuffix('.{}')}_names"
            if key in decoder[side]:
                decoder[side][key] = name.format("%d")

    def make_short_conv(self, layer_id: int, conv_module: Any, root_input: str) -> str:
        """As the builder's, with those biases; the name of what comes out of it, [B, T, H]."""
        self._biases = {id(one): one.bias for one in (conv_module.in_proj, conv_module.out_proj)}
        made = str(super().make_short_conv(layer_id, conv_module, root_input))
        self._biases = {}
        return made

    def make_matmul(self, matmul: Any, basename: str, root_input: str, **kwargs: Any) -> Any:
        """As the builder's; the name of the node that adds the bias where there is one to add."""
        name = super().make_matmul(matmul, basename, root_input, **kwargs)
        bias = getattr(self, "_biases", {}).get(id(matmul))
        if bias is None:
            return name
        added = basename.removesuffix("MatMul") + "Add"
        self.make_add_bias(bias, added, root_input=f"{name}/output_0")
        return added
