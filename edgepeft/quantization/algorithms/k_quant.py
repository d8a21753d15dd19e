"""ONNX Runtime's k_quant: scale and minimum of each block searched for the least weighted squared error.

The search is llama.cpp's for its k-quants, as ONNX Runtime ships it for its own quantizer; we call theirs.
"""

from __future__ import annotations

import torch

from edgepeft.errors import MissingError
from edgepeft.quantization.grids import BlockCodes, IntGrid, into_blocks

_ROWS_AT_ONCE_ELEMENTS = 1 << 22
"""The search holds about twenty float arrays of its input; this keeps them in the tens of megabytes."""


class KQuant:
    """k_quant over rows a few at a time."""

    asymmetric_only = True

    def __call__(self, weight: torch.Tensor, grid: IntGrid) -> BlockCodes:
        """Round a finite float32 weight [N, K] to the grid. Raises MissingError without onnxruntime."""
        try:
            from onnxruntime.quantization.neural_compressor.weight_only import (
                quant_tensor_k_quant_cpu,
            )
        except ImportError:
            raise MissingError(
                "quantize.algorithm: k_quant comes from onnxruntime: pip install 'edgepeft[cpu,export]'"
            ) from None
        blocks = into_blocks(weight.to(torch.float32), grid)
        rows, per_row, _ = blocks.shape
        codes = torch.empty_like(blocks, dtype=torch.uint8)
        scales = torch.empty(rows, per_row)
        zero_points = torch.empty(rows, per_row, dtype=torch.uint8)
        step = max(1, _ROWS_AT_ONCE_ELEMENTS // (per_row * grid.block_size))
        for start in range(0, rows, step):
            part = blocks[start : start + step]
            q, scale, zero = quant_tensor_k_quant_cpu(part.numpy(), grid.bits, grid.block_size)
            count = part.shape[0]
            codes[start : start + step] = torch.from_numpy(q).reshape(part.shape).to(torch.uint8)
            scales[start : start + step] = torch.from_numpy(scale).reshape(count, -1).float()
            zero_points[start : start + step] = torch.from_numpy(zero).reshape(count, -1)
        return BlockCodes(grid, weight.shape[1], codes, scales, zero_points)


ROUNDING = KQuant()
