"""Weights that rounding algorithms are tried on."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st

from edgepeft.quantization.grids import IntGrid

BLOCK_SIZES = (16, 32, 64, 128)


def normal(rows: int, width: int, *, seed: int = 0, scale: float = 0.05) -> torch.Tensor:
    """Weights as trained models have them."""
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * scale


def special(block: int) -> dict[str, torch.Tensor]:
    """Rows of two blocks each that make a careless scale divide by zero or miss the block."""
    ramp = torch.linspace(0.0, 1.0, 2 * block)
    single = torch.zeros(2 * block)
    single[block // 2] = -3.0
    rows = {
        "zeros": torch.zeros(2 * block),
        "constant": torch.full((2 * block,), 0.25),
        "negative constant": torch.full((2 * block,), -0.25),
        "all positive": 0.5 + 0.1 * ramp,
        "all negative": -0.5 - 0.1 * ramp,
        "one weight": single,
        "huge": 1e30 * (ramp - 0.5),
        "tiny": 1e-30 * (ramp - 0.5),
        "both extremes": torch.where(torch.arange(2 * block) % 2 == 0, 1.0, -1.0),
    }
    return {name: row[None] for name, row in rows.items()}


@st.composite
def grids(draw: Any, symmetric: bool | None = None) -> IntGrid:
    """Any integer grid edgepeft has."""
    chosen = draw(st.booleans()) if symmetric is None else symmetric
    return IntGrid(draw(st.sampled_from([4, 8])), draw(st.sampled_from(BLOCK_SIZES)), chosen)


@st.composite
def weights(draw: Any) -> torch.Tensor:
    """Weights of any small shape, size and offset; widths rarely fill their last block."""
    rows, width = draw(st.integers(1, 5)), draw(st.integers(1, 300))
    scale = draw(st.sampled_from([1e-6, 0.05, 1.0, 1e4]))
    offset = draw(st.sampled_from([0.0, 0.0, 1.0, -2.0]))
    seed = draw(st.integers(0, 2**31))
    return (normal(rows, width, seed=seed, scale=1.0) + offset) * scale
