"""Calibration inputs that rounding algorithms are tried on, and what they try to keep small."""

from __future__ import annotations

import torch

from edgepeft.calibration.statistics import InputStatistics


def statistics_of(inputs: torch.Tensor) -> InputStatistics:
    """Statistics of inputs float32 [T, K]."""
    statistics = InputStatistics(inputs.shape[1])
    statistics.add(inputs)
    return statistics


def correlated(tokens: int, width: int, seed: int = 0) -> torch.Tensor:
    """Inputs as layers have them: few directions hold most of the energy."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator) / width**0.5
    energy = torch.logspace(0, -1.5, width)
    return torch.randn(tokens, width, generator=generator) * energy @ mix


def loss(weight: torch.Tensor, rounded: torch.Tensor, inputs: torch.Tensor) -> float:
    """Squared error of the products of inputs [T, K] with a rounded weight [N, K]."""
    return float(((weight - rounded) @ inputs.T).square().sum())
