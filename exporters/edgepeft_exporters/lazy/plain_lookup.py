"""The lookup of a quantized embedding in operators that every runtime has.

onnxruntime's build for browsers with WebGPU leaves out the processor's kernel of GatherBlockQuantized. Gathering
codes, scales and zero points and computing ``(code - zero) * scale`` gives the same floats: the operator's own
arithmetic, on the rows that are asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edgepeft_exporters.lazy.graph import LazyGraph, put_in_place

_LOOKUP = "GatherBlockQuantized"


def spread_lookups(graph: LazyGraph, counts: dict[str, int]) -> None:
    """Replace every GatherBlockQuantized; ``counts``, of operators with codes, say so.

    The last rewriting of a graph: others look for the one node.
    """
    nodes = [node for node in graph.model.graph if node.op_type == _LOOKUP]
    for node in nodes:
        _Spread(graph.model.graph, node).replace()
    counts["Gather"] = counts.pop(_LOOKUP, len(nodes))


class _Spread:
    """One lookup of ids [B, T] in a table of codes uint8 [V, blocks * block_size * bits / 8]."""

    def __init__(self, graph: ir.Graph, node: ir.Node) -> None:
        self._graph = graph
        self._node = node
        self._made: list[ir.Node] = []
        self._bits = node.attributes["bits"].as_int()
        self._block = node.attributes["block_size"].as_int()
        self._codes, self._ids, self._scales, *zero = map(_given, node.inputs)
        self._zero = zero[0] if zero else None
        assert self._scales.dtype is not None
        assert self._scales.shape is not None
        self._dtype, self._count = self._scales.dtype, int(self._scales.shape[1])

    def replace(self) -> None:
        """Put the arithmetic in the node's place."""
        scales = self._beside(self._op("Gather", self._scales, self._ids))
        codes = self._floats(self._op("Gather", self._codes, self._ids))
        values = self._op("Reshape", codes, self._integers("blocks", 0, 0, -1, self._block))
        restored = self._op("Mul", self._op("Sub", values, self._middle()), scales)
        rows = self._op("Reshape", restored, self._integers("rows", 0, 0, -1))
        put_in_place(self._graph, self._node, rows)

    def _middle(self) -> ir.Value:
        """The code that stands for zero, of each block [B, T, blocks, 1] or of all."""
        if self._zero is None:
            return self._float("middle", 1 << (self._bits - 1))
        points = self._floats(self._op("Gather", self._zero, self._ids))
        if self._bits == 4 and self._count % 2:
            # An odd number of blocks leaves half of the last byte empty.
            ends = (("start", 0), ("end", self._count), ("last", -1))
            points = self._op("Slice", points, *(self._integers(*end) for end in ends))
        return self._beside(points)

    def _beside(self, blocks: ir.Value) -> ir.Value:
        """A number for each block [B, T, blocks], as [B, T, blocks, 1]."""
        return self._op("Unsqueeze", blocks, self._integers("last", -1))

    def _floats(self, packed: ir.Value) -> ir.Value:
        """What bytes [B, T, n] hold as floats: a number each, or two of 4 bits, which makes [B, T, 2n]."""
        whole = self._op("Cast", packed, to=int(self._dtype))
        if self._bits == 8:
            return whole
        sixteen = self._float("sixteen", 16)
        high = self._op("Floor", self._op("Div", whole, sixteen))
        low = self._op("Sub", whole, self._op("Mul", high, sixteen))
        # The earlier number is in the low bits.
        both = self._op("Concat", self._beside(low), self._beside(high), axis=-1)
        return self._op("Reshape", both, self._integers("rows", 0, 0, -1))

    def _integers(self, name: str, *numbers: int) -> ir.Value:
        return self._constant(name, ir.tensor(list(numbers), dtype=ir.DataType.INT64))

    def _float(self, name: str, number: int) -> ir.Value:
        return self._constant(name, ir.tensor(np.array([number], self._dtype.numpy())))

    def _constant(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        full = f"{self._node.name}/{name}"
        if full not in self._graph.initializers:
            value = ir.Value(name=full, type=ir.TensorType(tensor.dtype), shape=tensor.shape)
            value.const_value = tensor
            self._graph.register_initializer(value)
        return self._graph.initializers[full]

    def _op(self, op: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        """One of ONNX's own operators, put before the lookup."""
        name = f"{self._node.name}/{op}_{len(self._made)}"
        node = ir.node(op, list(inputs), attributes, name=name, num_outputs=1)
        node.outputs[0].name = f"{name}/output_0"
        self._made.append(node)
        self._graph.insert_before(self._node, node)
        return node.outputs[0]


def _given(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value
