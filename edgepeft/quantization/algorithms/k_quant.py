"""ONNX Runtime's k_quant: scale and minimum of each block searched for the least weighted squared error.

The search is llama.cpp's for its k-quants, as ONNX Runtime ships it for its own quantizer; we call theirs. It
looks for a minimum in floating point and rounds that to a zero point afterwards, which loses many blocks what the
search had won and ruins those without a change of sign; a block that came out worse is rounded to nearest.
"""

from __future__ import annotations

import torch

from edgepeft.calibration.statistics import InputStatistics
from edgepeft.compat.onnxruntime_k_quant import k_quant
from edgepeft.errors import MissingError
from edgepeft.quantization.algorithms.rtn import ROUNDING as RTN
from edgepeft.quantization.grids import BlockCodes, IntGrid, into_blocks


class KQuant:
    """The search as onnxruntime ships it, never worse than rounding to nearest; it has no symmetric form."""

    asymmetric_only = True
    calibrated = False

    def __call__(
        self, weight: torch.Tensor, grid: IntGrid, statistics: InputStatistics | None = None
    ) -> BlockCodes:
        """Round a finite float32 weight [N, K] to the grid. Raises MissingError without onnxruntime."""
        blocks = into_blocks(weight.to(torch.float32), grid)
        try:
            # What blocks of equal weights yield, which divide by zero in there, is never kept.
            codes, scales, zero_points = k_quant(blocks.numpy(), grid.bits, grid.block_size)
        except ImportError:
            raise MissingError(
                "quantize.algorithm: k_quant comes from onnxruntime: pip install 'edgepeft[cpu,export]'"
            ) from None
        shape = blocks.shape[:2]
        searched = BlockCodes(
            grid=grid,
            width=weight.shape[1],
            codes=torch.from_numpy(codes).reshape(blocks.shape).to(torch.uint8),
            scales=torch.from_numpy(scales).reshape(shape).float(),
            zero_points=torch.from_numpy(zero_points).reshape(shape),
        )
        return _better_of(searched, RTN(weight, grid), blocks)


def _better_of(one: BlockCodes, other: BlockCodes, blocks: torch.Tensor) -> BlockCodes:
    """Block by block the one with the smaller error."""
    assert one.zero_points is not None
    assert other.zero_points is not None
    first = weighted_error(one, blocks) < weighted_error(other, blocks)
    return BlockCodes(
        grid=one.grid,
        width=one.width,
        codes=torch.where(first[..., None], one.codes, other.codes),
        scales=torch.where(first, one.scales, other.scales),
        zero_points=torch.where(first, one.zero_points, other.zero_points),
    )


def weighted_error(rounded: BlockCodes, blocks: torch.Tensor) -> torch.Tensor:
    """What the search minimizes, per block [N, blocks]: squared error, large weights counting for more."""
    difference = into_blocks(rounded.dequantize(), rounded.grid) - blocks
    importance = blocks.abs() + blocks.square().mean(dim=-1, keepdim=True).sqrt()
    return (importance * difference.square()).sum(dim=-1)


ROUNDING = KQuant()
