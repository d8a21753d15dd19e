"""Binding integer codes into a float graph.

Every product with a quantized weight becomes a MatMulNBits over the codes the quantize stage made, and the
embedding's lookup a GatherBlockQuantized; where head and embedding are tied both read the same bytes. Which rows
of which weight stand behind an initializer is found by evaluating its expression over row numbers, so slices and
concatenations of rows, which commute with rounding along K, bind without special cases.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch

from edgepeft.errors import EdgepeftError
from edgepeft.quantization.grids import IntGrid
from edgepeft.quantization.packed_weights import QuantizedWeights
from edgepeft_exporters.lazy.graph import LazyGraph, lazy_tensor, put_in_place
from edgepeft_exporters.lazy.rows import Rows, quantized_shapes, rows_of

_DOMAIN = "com.microsoft"


def bind_codes(
    graph: LazyGraph, quantized: QuantizedWeights, io_dtype: ir.DataType, accuracy_level: int
) -> dict[str, int]:
    """Replace products and the embedding lookup by their quantized operators; counts of each by operator.

    Raises EdgepeftError where a product that should be quantized can't be bound.
    """
    counts = {"MatMulNBits": 0, "GatherBlockQuantized": 0, "MatMul": 0}
    binder = Binder(graph, quantized, io_dtype, accuracy_level)
    binder.rewrite_products(counts)
    for node in list(graph.model.graph):
        if node.op_type == "Gather" and deferred_input(node, 0, graph) is not None:
            counts["GatherBlockQuantized"] += binder.gather(node)
    binder.finish()
    return counts


def deferred_input(node: ir.Node, index: int, graph: LazyGraph) -> str | None:
    """The name of a node's input if it is a weight that is still an expression."""
    if len(node.inputs) <= index or node.inputs[index] is None:
        return None
    name = node.inputs[index].name
    return name if name in graph.deferred else None


class Binder:
    """Rewrites nodes of one graph; remembers which weights have found their place."""

    def __init__(
        self,
        graph: LazyGraph,
        quantized: QuantizedWeights,
        io_dtype: ir.DataType,
        accuracy_level: int,
    ) -> None:
        self._source = graph
        self._graph = graph.model.graph
        self._deferred = graph.deferred
        self._quantized = quantized
        self._shapes = quantized_shapes(quantized)
        self._io_dtype = io_dtype
        self._accuracy_level = accuracy_level
        self._halves = set(quantized.plan.half)
        self._values: dict[tuple[str, str], ir.Value] = {}
        self.bound: set[str] = set()

    def rewrite_products(self, counts: dict[str, int]) -> None:
        """Turn every product with a weight into what ``matmul`` makes of it, and count that by operator."""
        for node in list(self._graph):
            weight = deferred_input(node, 1, self._source) if node.op_type == "MatMul" else None
            if weight is not None:
                counts[self.matmul(node, weight)] += 1

    def finish(self) -> None:
        """Drop what is no longer read. Raises EdgepeftError where a quantized weight has found no place."""
        self.drop_unused()
        missing = sorted(set(self._quantized.plan.weights) - self.bound)
        if missing:
            raise EdgepeftError(
                f"{missing[0]}: was quantized, but the graph does not use it as a product"
            )

    def matmul(self, node: ir.Node, weight: str) -> str:
        """Turn one MatMul into a MatMulNBits if its weight was quantized; the operator it is afterwards."""
        rows = rows_of(self._deferred[weight], self._shapes)
        if rows is None:
            self._halve(node, weight)
            return "MatMul"
        grid = self._shared_grid(rows.names)
        width, count = self._deferred[weight].shape
        parts = self._parts(weight, rows, grid, count, width)
        attributes = {
            "K": int(width),
            "N": int(count),
            "bits": grid.bits,
            "block_size": grid.block_size,
        }
        if self._accuracy_level:
            attributes["accuracy_level"] = self._accuracy_level
        self._replace(node, "MatMulNBits", [node.inputs[0], *parts], attributes)
        self.bound.update(rows.names)
        return "MatMulNBits"

    def _halve(self, node: ir.Node, weight: str) -> None:
        """Keep a weight in half precision where the layout says so; runtimes widen it when a session opens."""
        tensor = self._deferred[weight]
        if not (self._io_dtype == ir.DataType.FLOAT and tensor.names() <= self._halves):
            return
        shape = tuple(tensor.shape)
        stored = self._initializer(f"{weight}_half", tensor.evaluate, shape, ir.DataType.FLOAT16)
        widened = self._node(
            "Cast", [stored], {"to": int(ir.DataType.FLOAT)}, "", f"{weight}_wide", before=node
        )
        widened.type, widened.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
        node.replace_input_with(1, widened)

    def gather(self, node: ir.Node) -> int:
        """Turn the embedding's Gather into a GatherBlockQuantized if the embedding was quantized."""
        name = self._quantized.plan.embedding
        grid = self._quantized.grid(name)
        if grid is None:
            return 0
        count, width = self._quantized.plan.weights[name].shape
        rows = Rows([name], torch.zeros(count, dtype=torch.int64), torch.arange(count))
        codes, *others = self._parts(name, rows, grid, count, width)
        padded = grid.blocks(width) * grid.block_size
        flat = self._constant(f"{name}.flat_shape", [count, padded * grid.bits // 8])
        data = self._node("Reshape", [codes, flat], {}, "", f"{node.name}/Reshape")
        attributes = {
            "bits": grid.bits,
            "block_size": grid.block_size,
            "gather_axis": 0,
            "quantize_axis": 1,
        }
        inputs = [data, node.inputs[1], *others]
        if padded != width:
            gathered = self._node(
                "GatherBlockQuantized", inputs, attributes, _DOMAIN, f"{node.name}/Padded"
            )
            ends = [self._constant(f"{name}.slice_{v}", [v]) for v in (0, width, -1)]
            self._replace(node, "Slice", [gathered, *ends], {}, domain="")
        else:
            self._replace(node, "GatherBlockQuantized", inputs, attributes)
        self.bound.add(name)
        return 1

    def drop_unused(self) -> None:
        """Forget initializers that no node reads any more."""
        for name, value in list(self._graph.initializers.items()):
            if not value.uses() and not value.is_graph_output():
                del self._graph.initializers[name]

    def _shared_grid(self, names: list[str]) -> IntGrid:
        grids = {self._quantized.grid(name) for name in names}
        (grid,) = grids if len(grids) == 1 else (None,)
        if grid is None:
            raise EdgepeftError(f"{names[0]} and {names[1]} share a product but not a grid")
        return grid

    def _parts(
        self, label: str, rows: Rows, grid: IntGrid, count: int, width: int
    ) -> list[ir.Value]:
        """Initializers for codes, scales and zero points; those of a whole checkpoint weight exist once."""
        if rows.whole(self._quantized):
            label = rows.names[0]
        made = []
        for part, shape in grid.shapes(count, width).items():
            key = (label, part)
            if key not in self._values:
                self._values[key] = self._part(f"{label}.{part}", rows, part, shape)
            made.append(self._values[key])
        return made

    def _part(self, name: str, rows: Rows, part: str, shape: tuple[int, ...]) -> ir.Value:
        """One initializer; scales that half precision holds are kept in it and widened when a session opens.

        Runtimes fold the cast of a constant before they hand it to a kernel, so it costs no token anything.
        """

        def assemble() -> torch.Tensor:
            return rows.gather(lambda weight: self._quantized.parts(weight)[part])

        if part != "scales":
            return self._initializer(name, assemble, shape, ir.DataType.UINT8)
        half = all(self._quantized.plan.weights[weight].half_scales for weight in rows.names)
        if not half or self._io_dtype != ir.DataType.FLOAT:
            return self._initializer(name, assemble, shape, self._io_dtype)
        stored = self._initializer(f"{name}_half", assemble, shape, ir.DataType.FLOAT16)
        widened = self._node("Cast", [stored], {"to": int(ir.DataType.FLOAT)}, "", name)
        widened.type, widened.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
        return widened

    def _initializer(
        self, name: str, compute: Any, shape: tuple[int, ...], dtype: ir.DataType
    ) -> ir.Value:
        value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
        value.const_value = lazy_tensor(name, compute, shape, dtype)
        self._graph.register_initializer(value)
        return value

    def _constant(self, name: str, numbers: list[int]) -> ir.Value:
        value = ir.Value(
            name=name, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([len(numbers)])
        )
        value.const_value = ir.tensor(numbers, dtype=ir.DataType.INT64, name=name)
        self._graph.register_initializer(value)
        return value

    def _node(
        self,
        op: str,
        inputs: list[Any],
        attributes: dict[str, Any],
        domain: str,
        name: str,
        before: ir.Node | None = None,
    ) -> ir.Value:
        node = ir.node(op, inputs, attributes, domain=domain, name=name, num_outputs=1)
        node.outputs[0].name = f"{name}/output_0"
        if before is None:
            self._graph.append(node)
        else:
            self._graph.insert_before(before, node)
        return node.outputs[0]

    def _replace(
        self,
        node: ir.Node,
        op: str,
        inputs: list[Any],
        attributes: dict[str, Any],
        domain: str = _DOMAIN,
    ) -> None:
        """Put a new node in the place of ``node``; its output keeps the old one's name, type and shape."""
        new = ir.node(op, inputs, attributes, domain=domain, name=node.name, num_outputs=1)
        self._graph.insert_before(node, new)
        put_in_place(self._graph, node, new.outputs[0])
