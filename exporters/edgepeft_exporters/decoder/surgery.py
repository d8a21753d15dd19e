"""Small helpers for nodes that are put into a finished graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch

from edgepeft_exporters.decoder.graph import DecoderGraph
from edgepeft_exporters.lazy.graph import lazy_tensor


class Surgeon:
    """Adds nodes and initializers to one graph under names that begin with ``prefix``."""

    def __init__(self, graph: DecoderGraph, prefix: str) -> None:
        self.graph = graph.model.graph
        self._prefix = prefix

    def constant(self, name: str, numbers: list[int]) -> ir.Value:
        """An int64 vector."""
        return self._registered(
            name, ir.tensor(numbers, dtype=ir.DataType.INT64), ir.DataType.INT64, [len(numbers)]
        )

    def number(self, name: str, number: float, dtype: ir.DataType) -> ir.Value:
        """A scalar of a floating-point type."""
        tensor = ir.tensor(torch.tensor(number).numpy(), dtype=ir.DataType.FLOAT)
        if dtype != ir.DataType.FLOAT:
            tensor = ir.tensor(tensor.numpy().astype(dtype.numpy()), dtype=dtype)
        return self._registered(name, tensor, dtype, [])

    def table(self, name: str, rows: torch.Tensor, dtype: ir.DataType) -> ir.Value:
        """A weight, stored as ``dtype``."""
        full, shape = f"{self._prefix}/{name}", tuple(rows.shape)
        return self._registered(name, lazy_tensor(full, lambda: rows, shape, dtype), dtype, shape)

    def node(
        self,
        op: str,
        inputs: list[ir.Value],
        name: str,
        dtype: ir.DataType,
        shape: list[Any],
        **attributes: Any,
    ) -> ir.Value:
        """One of ONNX's own operators with one output; the graph is sorted when it is saved."""
        full = f"{self._prefix}/{name}"
        node = ir.node(op, inputs, attributes, name=full, num_outputs=1)
        made = node.outputs[0]
        made.name, made.type, made.shape = f"{full}/output_0", ir.TensorType(dtype), ir.Shape(shape)
        self.graph.append(node)
        return made

    def _registered(self, name: str, tensor: Any, dtype: ir.DataType, shape: Any) -> ir.Value:
        full = f"{self._prefix}/{name}"
        value = ir.Value(name=full, type=ir.TensorType(dtype), shape=ir.Shape(shape))
        tensor.name = full
        value.const_value = tensor
        self.graph.register_initializer(value)
        return value


def redirect(uses: Sequence[tuple[ir.Node, int]], new: ir.Value) -> None:
    """Let those that read a value (its ``uses()`` before ``new`` was made of it) read ``new`` instead."""
    for node, index in uses:
        node.replace_input_with(index, new)
