"""GPTQ: rounding that lets the weights not yet rounded make up for the errors of those that are.

Frantar et al. 2022 (https://arxiv.org/abs/2210.17323): with H = Σ x xᵀ over calibration inputs, inputs are taken
from the most to the least energetic; the error of each, divided by its entry of the Cholesky factor of H⁻¹, is
taken off the weights that follow, which minimizes Σ ‖(W - Q) x‖² greedily. Scales and zero points are fixed
before ("static groups" of the authors' code, https://github.com/IST-DASLab/gptq), by a search over shrunken
ranges for the least error weighted by that same factor.
"""

from __future__ import annotations

import torch

from edgepeft.calibration.statistics import InputStatistics
from edgepeft.quantization.grids import BlockCodes, IntGrid, into_blocks, settle

_AT_ONCE = 128
"""Inputs whose errors reach the rest of the weight together, as one matrix product."""
_SHRINK = (1.0, 0.96, 0.92, 0.88, 0.84, 0.8)


class Gptq:
    """Calibrated rounding; a weight without statistics gets the search over ranges alone."""

    asymmetric_only = False
    calibrated = True

    def __call__(
        self, weight: torch.Tensor, grid: IntGrid, statistics: InputStatistics | None = None
    ) -> BlockCodes:
        """Round a finite float32 weight [N, K] to the grid."""
        rows, width = weight.shape
        blocks = into_blocks(weight.to(torch.float32), grid)
        importance = torch.ones(width) if statistics is None else statistics.importance
        scales, zeros = search_ranges(blocks, grid, into_blocks(importance[None], grid)[0])
        if statistics is None:
            codes = quantize(blocks, scales[..., None], zeros[..., None], grid)
        else:
            codes = torch.full((blocks.shape[1] * grid.block_size, rows), float(grid.middle))
            _round_in_order(weight, grid, statistics, scales, zeros, codes)
            codes = codes.T.reshape(blocks.shape)
        return BlockCodes(
            grid=grid,
            width=width,
            codes=codes.to(torch.uint8),
            scales=scales,
            zero_points=None if grid.symmetric else zeros.to(torch.uint8),
        )


def quantize(
    weight: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor, grid: IntGrid
) -> torch.Tensor:
    """The nearest codes, as floats, of weights under scales and zero points that broadcast to them."""
    return torch.div(weight, scales).add_(zeros).round_().clamp_(0, grid.top)


def _round_in_order(
    weight: torch.Tensor,
    grid: IntGrid,
    statistics: InputStatistics,
    scales: torch.Tensor,
    zeros: torch.Tensor,
    codes: torch.Tensor,
) -> None:
    """Fill ``codes`` [K padded, N], input by input; everything is kept transposed so that an input is one row."""
    order, factor = statistics.order, statistics.factor
    rest = weight.to(torch.float32).T[order].contiguous()
    by_block = (order // grid.block_size).tolist()
    scale_rows, zero_rows = scales.T.contiguous(), zeros.T.contiguous()
    for start in range(0, len(order), _AT_ONCE):
        end = min(start + _AT_ONCE, len(order))
        errors = torch.empty(end - start, weight.shape[0])
        for at in range(start, end):
            scale, zero = scale_rows[by_block[at]], zero_rows[by_block[at]]
            code = quantize(rest[at], scale, zero, grid)
            codes[order[at]] = code
            error = errors[at - start]
            torch.sub(rest[at], code.sub(zero).mul_(scale), out=error)
            error.div_(factor[at, at])
            rest[at + 1 : end].addr_(factor[at, at + 1 : end], error, alpha=-1.0)
        rest[end:].addmm_(factor[start:end, end:].T, errors, alpha=-1.0)


def search_ranges(
    blocks: torch.Tensor, grid: IntGrid, importance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales and zero points float32 [N, blocks] of blocks [N, blocks, B] with the least weighted error.

    ``importance`` float32 [blocks, B] weighs squared errors; ranges from the whole down to 80 % are tried.
    """
    low, high = torch.aminmax(blocks, dim=-1)
    if grid.symmetric:
        whole = torch.where(high > -low, high, low) / -float(grid.middle)
    else:
        low, high = low.clamp(max=0.0), high.clamp(min=0.0)
        whole = (high - low) / grid.top
    whole = torch.where(whole == 0, torch.ones_like(whole), whole)
    zeros = torch.full_like(whole, float(grid.middle))
    if not grid.symmetric:
        zeros = (-low / whole).round_().clamp_(0, grid.top)
    best_scales, best_error = whole, torch.full_like(whole, torch.inf)
    for shrink in _SHRINK:
        # A bundle keeps such scales in half the bytes, so the codes are chosen for them.
        scales = settle(whole * shrink)
        codes = quantize(blocks, scales[..., None], zeros[..., None], grid)
        codes.sub_(zeros[..., None]).mul_(scales[..., None]).sub_(blocks)
        error = (codes.square_() * importance).sum(-1)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scales = torch.where(better, scales, best_scales)
    return best_scales, zeros


ROUNDING = Gptq()
