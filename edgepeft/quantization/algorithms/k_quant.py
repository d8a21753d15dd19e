"""ONNX Runtime's k_quant: scale and minimum of each block searched for the least weighted squared error.

The search is llama.cpp's for its k-quants, as ONNX Runtime ships it for its own quantizer; we call theirs.
"""

from __future__ import annotations

import torch

from edgepeft.errors import MissingError
from edgepeft.quantization.grids import BlockCodes, IntGrid, into_blocks


class KQuant:
    """The search as onnxruntime ships it; it has no symmetric form."""

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
        codes, scales, zero_points = quant_tensor_k_quant_cpu(
            blocks.numpy(), grid.bits, grid.block_size
        )
        rows = weight.shape[0]
        return BlockCodes(
            grid=grid,
            width=weight.shape[1],
            codes=torch.from_numpy(codes).reshape(blocks.shape).to(torch.uint8),
            scales=torch.from_numpy(scales).reshape(rows, -1).float(),
            zero_points=torch.from_numpy(zero_points).reshape(rows, -1),
        )


ROUNDING = KQuant()
