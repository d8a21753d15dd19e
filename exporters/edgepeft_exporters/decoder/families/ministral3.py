"""Ministral 3: Mistral with queries that grow past the length it was first trained on, as Llama 4 has it."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from edgepeft_exporters.decoder.families.rotary import ModelRotary

_STEM, _CONSTANTS = "/model/query_scale", "/model/constants"


class Graph(ModelRotary):
    """The builder's model whose queries are multiplied by a number that depends on their position alone."""

    def __init__(self, config: Any, *arguments: Any) -> None:
        settings = config.rope_parameters
        self._beta = float(settings["llama_4_scaling_beta"])
        self._length = int(settings["original_max_position_embeddings"])
        super().__init__(config, *arguments)
        # Queries must come apart from keys and values.
        self.attention_attrs["use_packed_matmul"] = False

    def make_preprocessing_nodes(self) -> None:
        """As the builder's, and the scale [B, T, 1] of every position: 1 + beta log(1 + floor(position / L))."""
        super().make_preprocessing_nodes()
        whole, real, row = ir.DataType.INT64, ir.DataType.FLOAT, ["batch_size", "sequence_length"]

        def node(name: str, *inputs: str, shape: list[Any], kind: Any = whole, **more: Any) -> str:
            made = f"{_STEM}/{name}"
            operator = name.partition("_")[0]
            self.make_node(operator, list(inputs), [f"{made}/output_0"], name=made, **more)
            self.make_value(f"{made}/output_0", kind, shape=shape)
            return f"{made}/output_0"

        # What comes before: all tokens of a row but those of this call, none where a row is filled up.
        last = f"{self.mask_attrs['seqlens_k'].removesuffix('/Cast')}/output_0"
        shape = node("Shape", self.input_names["input_ids"], shape=[2])
        length = node("Gather", shape, f"{_CONSTANTS}/INT64/1", shape=[], axis=0)
        read = node("Add", last, f"{_CONSTANTS}/INT64/[1]", shape=["batch_size"])
        past = node("Sub", read, length, shape=["batch_size"])
        past = node("Max", past, f"{_CONSTANTS}/INT64/[0]", shape=["batch_size"])
        past = node("Unsqueeze", past, f"{_CONSTANTS}/INT64/[1]", shape=["batch_size", 1])
        ends = (f"{_CONSTANTS}/INT64/0", length, f"{_CONSTANTS}/INT64/1")
        steps = node("Range", *ends, shape=["sequence_length"])
        position = node("Add_Position", past, steps, shape=row)
        times = node("Div", position, f"{_CONSTANTS}/INT64/[{self._length}]", shape=row)
        times = node("Cast", times, shape=row, kind=real, to=real)
        grown = node("Add_One", times, f"{_CONSTANTS}/FLOAT/1.0", shape=row, kind=real)
        grown = node("Log", grown, shape=row, kind=real)
        grown = node("Mul", grown, f"{_CONSTANTS}/FLOAT/{self._beta}", shape=row, kind=real)
        grown = node("Add_Grown", grown, f"{_CONSTANTS}/FLOAT/1.0", shape=row, kind=real)
        scale, kind = [*row, 1], self.io_dtype
        if kind != real:
            grown = node("Cast_Scale", grown, shape=row, kind=kind, to=kind)
        last = f"{_CONSTANTS}/INT64/[2]"
        self._scale = node("Unsqueeze_Scale", grown, last, shape=scale, kind=kind)

    def make_attention_qk_norm(self, layer_id: int, attention: Any) -> None:
        """The queries' scale, which may come before their rotation: that keeps lengths."""
        super().make_attention_qk_norm(layer_id, attention)
        name = f"/model/layers.{layer_id}/attn/q_scale/Mul"
        inputs = [self.attention_attrs["q_path"], self._scale]
        shape = ["batch_size", "sequence_length", self.q_size]
        self.make_mul(name, inputs, dtype=self.io_dtype, shape=shape)
        self.attention_attrs["q_path"] = f"{name}/output_0"
