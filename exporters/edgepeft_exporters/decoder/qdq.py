"""Integer weights as DequantizeLinear before a MatMul, for runtimes that read only ONNX's own operators.

The weight of ``MatMul(x, W)`` with W [K, N] becomes signed 4-bit codes [K, N] and scales [ceil(K/block), N],
blocked along K (https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html, version 21). Only symmetric grids of
4 bits have this form here: TensorRT reads no zero points.
"""

from __future__ import annotations

import onnx_ir as ir
import torch

from edgepeft.errors import EdgepeftError
from edgepeft.quantization.grids import IntGrid, unpack
from edgepeft.quantization.packed_weights import QuantizedWeights
from edgepeft_exporters.lazy.bind import Binder
from edgepeft_exporters.lazy.graph import LazyGraph
from edgepeft_exporters.lazy.rows import Rows, rows_of


def bind_dequantized(
    graph: LazyGraph, quantized: QuantizedWeights, io_dtype: ir.DataType
) -> dict[str, int]:
    """Put DequantizeLinear before every product with a quantized weight; counts of each by operator.

    Raises EdgepeftError where a weight's grid has no such form or a quantized weight has no product.
    """
    binder = _QdqBinder(graph, quantized, io_dtype, 0)
    counts = {"DequantizeLinear": 0, "MatMul": 0}
    binder.rewrite_products(counts)
    binder.finish()
    return counts


class _QdqBinder(Binder):
    def matmul(self, node: ir.Node, weight: str) -> str:
        """Turn one weight into codes, scales and a DequantizeLinear; the operator that reads it."""
        rows = rows_of(self._deferred[weight], self._shapes)
        if rows is None:
            return "MatMul"
        grid = self._shared_grid(rows.names)
        if grid.bits != 4 or not grid.symmetric:
            raise EdgepeftError(f"{rows.names[0]}: only symmetric 4-bit weights can be dequantized")
        width, count = (int(size) for size in self._deferred[weight].shape)
        codes = ir.Value(
            name=f"{weight}.codes",
            type=ir.TensorType(ir.DataType.INT4),
            shape=ir.Shape((width, count)),
        )
        codes.const_value = ir.LazyTensor(
            lambda: _packed(codes.name or "", self._columns(rows, grid, width), (width, count)),
            dtype=ir.DataType.INT4,
            shape=ir.Shape((width, count)),
            name=codes.name,
        )
        self._graph.register_initializer(codes)
        scales = self._initializer(
            f"{weight}.scales",
            lambda: rows.gather(lambda name: self._quantized.parts(name)["scales"]).T,
            (grid.blocks(width), count),
            self._io_dtype,
        )
        attributes = {"axis": 0, "block_size": grid.block_size}
        restored = self._node(
            "DequantizeLinear", [codes, scales], attributes, "", f"{node.name}/Weight", before=node
        )
        restored.type, restored.shape = ir.TensorType(self._io_dtype), ir.Shape((width, count))
        node.replace_input_with(1, restored)
        self.bound.update(rows.names)
        return "DequantizeLinear"

    def _columns(self, rows: Rows, grid: IntGrid, width: int) -> torch.Tensor:
        """Codes as signed numbers from -8 to 7, int8 [K, N]."""

        def unpacked(name: str) -> torch.Tensor:
            codes = unpack(self._quantized.parts(name)["codes"], grid.bits, grid.block_size)
            return codes.reshape(codes.shape[0], -1)[:, :width]

        return (rows.gather(unpacked).to(torch.int8) - grid.middle).T.contiguous()


def _packed(name: str, codes: torch.Tensor, shape: tuple[int, int]) -> ir.PackedTensor:
    """Two codes a byte in the order of ONNX's INT4: the earlier one in the low bits."""
    flat = (codes.flatten() & 0xF).to(torch.uint8)
    if flat.numel() % 2:
        flat = torch.nn.functional.pad(flat, (0, 1))
    both = flat[0::2] | (flat[1::2] << 4)
    return ir.PackedTensor(both.numpy(), dtype=ir.DataType.INT4, shape=ir.Shape(shape), name=name)
