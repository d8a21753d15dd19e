"""Choosing the grid of each layer: the least KL that a number of bytes buys.

Every unit (weights that share an input) starts on its smallest grid; the step to a larger one that takes off most
predicted KL for its bytes is taken again and again until the bytes are used up. Grids that a unit's own curve of
bytes against cost makes no use of (above its lower convex hull) are left out, so that this greedy order is the
best one up to the last step (Shoham and Gersho 1988, doi 10.1109/29.90373).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edgepeft.checkpoints.source import TensorSource
from edgepeft.quantization.algorithms.gptq import ROUNDING as SEARCH
from edgepeft.quantization.grids import IntGrid
from edgepeft.quantization.sensitivity import Unit

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Choice:
    """One grid for a unit: its bytes in a bundle and its predicted cost in nats per token."""

    grid: IntGrid
    nbytes: int
    cost: float


def candidate_grids(symmetric: bool) -> list[IntGrid]:
    """Grids a budget chooses from; blocks of 16 are left out, for their kernels decode a third slower."""
    sizes = ((4, 128), (4, 64), (4, 32), (8, 32))
    return [IntGrid(bits, block_size, symmetric) for bits, block_size in sizes]


def grid_bytes(grid: IntGrid, rows: int, width: int) -> int:
    """Bytes of a weight in a bundle: codes, zero points and scales in half precision."""
    shapes = grid.shapes(rows, width)
    sizes = {"codes": 1, "zero_points": 1, "scales": 2}
    return sum(int(torch.Size(shape).numel()) * sizes[part] for part, shape in shapes.items())


def predicted(unit: Unit, weights: TensorSource, grids: Sequence[IntGrid]) -> list[Choice]:
    """Each grid's bytes and cost for a unit, on its weights rounded there one by one."""
    nbytes = dict.fromkeys(grids, 0)
    cost = dict.fromkeys(grids, 0.0)
    for name in unit.names:
        weight = weights.load(name).to(torch.float32)
        sensitivity = unit.sensitivities[name]
        for grid in grids:
            nbytes[grid] += grid_bytes(grid, *weight.shape)
            for start in range(0, weight.shape[0], _ROWS_AT_ONCE):
                part = weight[start : start + _ROWS_AT_ONCE]
                error = SEARCH(part, grid).dequantize() - part
                cost[grid] += sensitivity.rows(start, start + _ROWS_AT_ONCE).cost(error)
    return [Choice(grid, nbytes[grid], cost[grid]) for grid in grids]


def lower_hull(choices: Sequence[Choice]) -> list[Choice]:
    """The choices worth taking, from the smallest up: each step buys less per byte than the one before."""
    hull: list[Choice] = []
    for choice in sorted(choices, key=lambda one: (one.nbytes, one.cost)):
        if hull and choice.cost >= hull[-1].cost:
            continue
        while len(hull) > 1 and _rate(hull[-2], hull[-1]) <= _rate(hull[-2], choice):
            hull.pop()
        hull.append(choice)
    return hull


def _rate(small: Choice, large: Choice) -> float:
    return (small.cost - large.cost) / max(1, large.nbytes - small.nbytes)


def smallest(options: Mapping[str, Sequence[Choice]]) -> int:
    """Bytes of every unit on its smallest grid."""
    return sum(min(choice.nbytes for choice in choices) for choices in options.values())


def spend(options: Mapping[str, Sequence[Choice]], budget: int) -> dict[str, Choice]:
    """A choice for every unit within ``budget`` bytes in all, which must be at least ``smallest(options)``."""
    hulls = {name: lower_hull(choices) for name, choices in options.items()}
    chosen = dict.fromkeys(hulls, 0)
    used = sum(hull[0].nbytes for hull in hulls.values())
    steps: list[tuple[float, str]] = []

    def offer(name: str) -> None:
        at, hull = chosen[name], hulls[name]
        if at + 1 < len(hull):
            heapq.heappush(steps, (-_rate(hull[at], hull[at + 1]), name))

    for name in hulls:
        offer(name)
    while steps:
        _, name = heapq.heappop(steps)
        at, hull = chosen[name], hulls[name]
        more = hull[at + 1].nbytes - hull[at].nbytes
        if used + more <= budget:
            used += more
            chosen[name] += 1
            offer(name)
    return {name: hulls[name][at] for name, at in chosen.items()}


def report(units: Sequence[Unit], choices: Mapping[str, Choice]) -> list[dict[str, Any]]:
    """What was chosen for each unit and what it is expected to cost, dearest first."""
    rows = [
        {
            "weights": unit.names,
            "grid": choices[unit.names[0]].grid.as_dict(),
            "bytes": choices[unit.names[0]].nbytes,
            "predicted_kl": choices[unit.names[0]].cost,
        }
        for unit in units
    ]
    return sorted(rows, key=lambda row: -float(row["predicted_kl"]))
