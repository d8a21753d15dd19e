"""A rounding algorithm: nearest codes on a scale that leaves a little room."""

from __future__ import annotations

import torch

from edgepeft.calibration.statistics import InputStatistics
from edgepeft.quantization.grids import BlockCodes, IntGrid, into_blocks


class Roomy:
    """Symmetric blocks whose largest weight stops one code before the end."""

    asymmetric_only = False
    calibrated = False

    def __call__(
        self, weight: torch.Tensor, grid: IntGrid, statistics: InputStatistics | None = None
    ) -> BlockCodes:
        """Round a finite float32 weight [N, K] to the grid."""
        blocks = into_blocks(weight.to(torch.float32), grid)
        scales = blocks.abs().amax(dim=-1).clamp(min=1e-8) / (grid.middle - 1)
        codes = (blocks / scales[..., None] + grid.middle).round().clamp(0, grid.top)
        zero_points = None if grid.symmetric else torch.full_like(scales, grid.middle)
        return BlockCodes(
            grid=grid,
            width=weight.shape[1],
            codes=codes.to(torch.uint8),
            scales=scales,
            zero_points=None if zero_points is None else zero_points.to(torch.uint8),
        )


ROUNDING = Roomy()
