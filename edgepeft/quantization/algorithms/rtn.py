"""Round to nearest, block by block: the baseline every other algorithm is measured against.

The symmetric form is ONNX Runtime's: the extreme weight of a block lands on the lowest code, so that the whole
range of codes is used. The asymmetric form spans the block's range, zero included.
"""

from __future__ import annotations

import torch

from edgepeft.calibration.statistics import InputStatistics
from edgepeft.quantization.grids import BlockCodes, IntGrid, into_blocks


class RoundToNearest:
    """Scale from the block's range, each weight to the nearest code."""

    asymmetric_only = False
    calibrated = False

    def __call__(
        self, weight: torch.Tensor, grid: IntGrid, statistics: InputStatistics | None = None
    ) -> BlockCodes:
        """Round a finite float32 weight [N, K] to the grid."""
        blocks = into_blocks(weight.to(torch.float32), grid)
        if grid.symmetric:
            scales = _symmetric_scales(blocks, grid)
            zero_points = None
            offset: torch.Tensor | float = float(grid.middle)
        else:
            scales, zero_points = _asymmetric_scales(blocks, grid)
            offset = zero_points[..., None]
        codes = torch.div(blocks, scales[..., None]).add_(offset).round_().clamp_(0, grid.top)
        return BlockCodes(
            grid=grid,
            width=weight.shape[1],
            codes=codes.to(torch.uint8),
            scales=scales,
            zero_points=None if zero_points is None else zero_points.to(torch.uint8),
        )


def _symmetric_scales(blocks: torch.Tensor, grid: IntGrid) -> torch.Tensor:
    low, high = torch.aminmax(blocks, dim=-1)
    extreme = torch.where(high > -low, high, low)
    scales = extreme / -float(grid.middle)
    return torch.where(scales == 0, torch.ones_like(scales), scales)


def _asymmetric_scales(blocks: torch.Tensor, grid: IntGrid) -> tuple[torch.Tensor, torch.Tensor]:
    low, high = torch.aminmax(blocks, dim=-1)
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    scales = (high - low) / grid.top
    scales = torch.where(scales == 0, torch.ones_like(scales), scales)
    zero_points = (-low / scales).round_().clamp_(0, grid.top)
    return scales, zero_points


ROUNDING = RoundToNearest()
