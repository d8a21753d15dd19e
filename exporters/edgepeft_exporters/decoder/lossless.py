"""Binding a training grid's own 4-bit codes and an unmerged adapter into a float graph.

A product with a quantized weight becomes a MatMulBnb4 over bitsandbytes' codes plus, where the weight is adapted,
two float products for the adapter; the operator's table and packing are bitsandbytes' own
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulBnb4).
"""

from __future__ import annotations

import onnx_ir as ir
import torch

from edgepeft.adapters.provenance import TrainingGrid
from edgepeft.quantization.packed_weights import QuantizedWeights
from edgepeft_exporters.lazy.bind import Binder
from edgepeft_exporters.lazy.graph import LazyGraph
from edgepeft_exporters.lazy.rows import Rows, rows_of

_TYPES = {"fp4": 0, "nf4": 1}


def bind_lossless(
    graph: LazyGraph, quantized: QuantizedWeights, io_dtype: ir.DataType
) -> dict[str, int]:
    """Replace products by MatMulBnb4 and adapter branches; counts of each by operator.

    Raises EdgepeftError where a quantized weight has no product.
    """
    binder = _LosslessBinder(graph, quantized, io_dtype, 0)
    counts = {"MatMulBnb4": 0, "MatMul": 0}
    binder.rewrite_products(counts)
    binder.finish()
    return counts


class _LosslessBinder(Binder):
    def matmul(self, node: ir.Node, weight: str) -> str:
        """Turn one MatMul into its lossless form; the operator it is afterwards."""
        rows = rows_of(self._deferred[weight], self._shapes)
        if rows is None:
            return "MatMul"
        entries = [self._quantized.plan.weights[name] for name in rows.names]
        width, count = self._deferred[weight].shape
        grid = entries[0].grid
        assert isinstance(grid, TrainingGrid)
        parts = [
            self._flat(weight, rows, "codes", count * width // 2, ir.DataType.UINT8),
            self._flat(weight, rows, "absmax", count * width // grid.block_size, self._io_dtype),
        ]
        attributes = {
            "K": int(width),
            "N": int(count),
            "block_size": grid.block_size,
            "quant_type": _TYPES[grid.kind],
        }
        rank = sum(entry.rank for entry in entries)
        if rank:
            source = node.inputs[0]
            base = self._node(
                "MatMulBnb4",
                [source, *parts],
                attributes,
                "com.microsoft",
                f"{node.name}/Base",
                before=node,
            )
            down = self._initializer(
                f"{weight}.lora_a", lambda: self._down(rows), (width, rank), self._io_dtype
            )
            up = self._initializer(
                f"{weight}.lora_b", lambda: self._up(rows, count), (rank, count), self._io_dtype
            )
            low = self._node("MatMul", [source, down], {}, "", f"{node.name}/Down", before=node)
            high = self._node("MatMul", [low, up], {}, "", f"{node.name}/Up", before=node)
            self._replace(node, "Add", [base, high], {}, domain="")
        else:
            self._replace(node, "MatMulBnb4", [node.inputs[0], *parts], attributes)
        self.bound.update(rows.names)
        return "MatMulBnb4"

    def _flat(self, label: str, rows: Rows, part: str, size: int, dtype: ir.DataType) -> ir.Value:
        return self._initializer(
            f"{label}.{part}",
            lambda: rows.gather(lambda name: self._quantized.parts(name)[part]).reshape(-1),
            (size,),
            dtype,
        )

    def _down(self, rows: Rows) -> torch.Tensor:
        """The A factors of every weight behind a product, side by side: [K, ranks]."""
        adapted = [name for name in rows.names if self._quantized.plan.weights[name].rank]
        return torch.cat([self._quantized.parts(name)["lora_a"] for name in adapted]).T

    def _up(self, rows: Rows, count: int) -> torch.Tensor:
        """The B factors, each reaching the product's columns that are its weight's own: [ranks, N]."""
        entries = self._quantized.plan.weights
        ranks = {name: entries[name].rank for name in rows.names}
        total = sum(ranks.values())

        def widened(name: str) -> torch.Tensor:
            made = torch.zeros(entries[name].shape[0], total)
            if ranks[name]:
                index = rows.names.index(name)
                start = sum(ranks[other] for other in rows.names[:index])
                made[:, start : start + ranks[name]] = self._quantized.parts(name)["lora_b"]
            return made

        return rows.gather(widened).T
