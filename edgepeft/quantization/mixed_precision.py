"""Choosing the grid of each layer: the least KL that a number of bytes buys, or the fewest bytes for a KL.

Every unit (weights that share an input) starts on its smallest grid; the step to a larger one that takes off most
predicted KL for its bytes is taken again and again until the bytes are used up or the KL is reached. Grids that a
unit's own curve of bytes against cost makes no use of (above its lower convex hull) are left out, so that this
greedy order is the best one up to the last step (Shoham and Gersho 1988, doi 10.1109/29.90373).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from edgepeft.checkpoints.source import TensorSource
from edgepeft.quantization.algorithms.gptq import ROUNDING as SEARCH
from edgepeft.quantization.grids import IntGrid
from edgepeft.quantization.plan import BudgetEntry
from edgepeft.quantization.sensitivity import Unit

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Choice:
    """One way to keep a unit: on a grid, or in half precision (``grid`` None).

    ``nbytes`` are those in a bundle; ``costs`` are predicted nats per judged token, by kind of data.
    """

    grid: IntGrid | None
    nbytes: int
    costs: tuple[float, ...]


Price = Callable[[Choice], float]
"""What a choice costs in one number."""


def candidate_grids(symmetric: bool) -> list[IntGrid]:
    """Grids a budget chooses from; blocks of 16 are left out, for their kernels decode a third slower."""
    sizes = ((4, 128), (4, 64), (4, 32), (8, 64), (8, 32))
    return [IntGrid(bits, block_size, symmetric) for bits, block_size in sizes]


def grid_bytes(grid: IntGrid, rows: int, width: int) -> int:
    """Bytes of a weight in a bundle: codes, zero points and scales in half precision."""
    shapes = grid.shapes(rows, width)
    sizes = {"codes": 1, "zero_points": 1, "scales": 2}
    return sum(int(torch.Size(shape).numel()) * sizes[part] for part, shape in shapes.items())


def predicted(
    unit: Sequence[Unit], weights: TensorSource, grids: Sequence[IntGrid], *, eight_bit_inputs: bool
) -> list[Choice]:
    """What each grid would cost a unit, whose sensitivities are given for each kind of data.

    The unit's weights are rounded to nearest, one by one; with ``eight_bit_inputs`` the rounding of what they
    are multiplied with is counted too.
    """
    nbytes = dict.fromkeys(grids, 0)
    costs = {grid: [0.0] * len(unit) for grid in grids}
    for name in unit[0].names:
        weight = weights.load(name).to(torch.float32)
        for grid in grids:
            nbytes[grid] += grid_bytes(grid, *weight.shape)
            for start in range(0, weight.shape[0], _ROWS_AT_ONCE):
                part = weight[start : start + _ROWS_AT_ONCE]
                error = SEARCH(part, grid).dequantize() - part
                for kind, one in enumerate(unit):
                    rows = one.sensitivities[name].rows(start, start + _ROWS_AT_ONCE)
                    costs[grid][kind] += rows.cost(error)
                    if eight_bit_inputs:
                        costs[grid][kind] += rows.input_cost(part, grid.block_size)
    return [Choice(grid, nbytes[grid], tuple(costs[grid])) for grid in grids]


def in_half_precision(unit: Sequence[Unit], weights: TensorSource) -> Choice:
    """A unit as it is but for the rounding to half precision, whose cost is far below any grid's."""
    elements = sum(torch.Size(weights.specs[name].shape).numel() for name in unit[0].names)
    return Choice(None, 2 * elements, (0.0,) * len(unit))


def lower_hull(choices: Sequence[Choice], price: Price) -> list[Choice]:
    """The choices worth taking, from the smallest up: each step buys less per byte than the one before."""
    hull: list[Choice] = []
    for choice in sorted(choices, key=lambda one: (one.nbytes, price(one))):
        if hull and price(choice) >= price(hull[-1]):
            continue
        while len(hull) > 1 and _rate(hull[-2], hull[-1], price) <= _rate(hull[-2], choice, price):
            hull.pop()
        hull.append(choice)
    return hull


def _rate(small: Choice, large: Choice, price: Price) -> float:
    return (price(small) - price(large)) / max(1, large.nbytes - small.nbytes)


def smallest(options: Mapping[str, Sequence[Choice]]) -> int:
    """Bytes of every unit on its smallest grid."""
    return sum(min(choice.nbytes for choice in choices) for choices in options.values())


def climb(
    options: Mapping[str, Sequence[Choice]],
    price: Price,
    accept: Callable[[Choice, Choice], bool],
) -> dict[str, Choice]:
    """Every unit from its smallest choice up its hull, dearest errors first.

    ``accept(old, new)`` decides on each step; where it refuses, the unit stays where it is for good.
    """
    hulls = {name: lower_hull(choices, price) for name, choices in options.items()}
    chosen = dict.fromkeys(hulls, 0)
    steps: list[tuple[float, str]] = []

    def offer(name: str) -> None:
        at, hull = chosen[name], hulls[name]
        if at + 1 < len(hull):
            heapq.heappush(steps, (-_rate(hull[at], hull[at + 1], price), name))

    for name in hulls:
        offer(name)
    while steps:
        _, name = heapq.heappop(steps)
        at, hull = chosen[name], hulls[name]
        if accept(hull[at], hull[at + 1]):
            chosen[name] += 1
            offer(name)
    return {name: hulls[name][at] for name, at in chosen.items()}


def spend(options: Mapping[str, Sequence[Choice]], budget: int, price: Price) -> dict[str, Choice]:
    """The cheapest choices within ``budget`` bytes in all, which must be at least ``smallest(options)``."""
    left = budget - smallest(options)

    def affordable(old: Choice, new: Choice) -> bool:
        nonlocal left
        more = new.nbytes - old.nbytes
        if more > left:
            return False
        left -= more
        return True

    return climb(options, price, affordable)


def reach(
    options: Mapping[str, Sequence[Choice]], bounds: Sequence[float | None]
) -> dict[str, Choice]:
    """The smallest choices whose predicted costs keep the bounds (one for each kind of data; None: unbounded).

    Where even the dearest don't, those are what comes out.
    """
    found = [_reach_along(options, bounds, weights) for weights in _directions(bounds)]
    kept = [one for one in found if within(total(one), bounds)]
    return min(kept or found, key=lambda one: sum(choice.nbytes for choice in one.values()))


def _directions(bounds: Sequence[float | None]) -> list[list[float]]:
    """Weights of the kinds against each other: evenly by their bounds, and each kind almost alone."""
    even = [0.0 if bound is None else 1.0 / max(bound, 1e-12) for bound in bounds]
    ahead = [
        [weight if other == kind else 0.1 * weight for other, weight in enumerate(even)]
        for kind in range(len(even))
    ]
    return [even, *ahead]


def _reach_along(
    options: Mapping[str, Sequence[Choice]],
    bounds: Sequence[float | None],
    weights: Sequence[float],
) -> dict[str, Choice]:
    def price(choice: Choice) -> float:
        return sum(weight * cost for weight, cost in zip(weights, choice.costs, strict=True))

    now = list(total({name: lower_hull(choices, price)[0] for name, choices in options.items()}))

    # Sums in another order may differ in their last digit; the walk must not stop short of a bound for that.
    safe = [None if bound is None else bound * (1 - 1e-9) for bound in bounds]

    def wanted(old: Choice, new: Choice) -> bool:
        if within(now, safe):
            return False
        for kind, (before, after) in enumerate(zip(old.costs, new.costs, strict=True)):
            now[kind] += after - before
        return True

    return climb(options, price, wanted)


def total(chosen: Mapping[str, Choice]) -> tuple[float, ...]:
    """Predicted costs of all units together, by kind of data."""
    return tuple(map(sum, zip(*(choice.costs for choice in chosen.values()), strict=True)))


def within(costs: Sequence[float], bounds: Sequence[float | None]) -> bool:
    """Whether every bound holds."""
    return all(bound is None or cost <= bound for cost, bound in zip(costs, bounds, strict=True))


def report(
    units: Sequence[Unit], choices: Mapping[str, Choice], kinds: Sequence[str]
) -> tuple[BudgetEntry, ...]:
    """What was chosen for each unit and what it is expected to cost, dearest first."""
    entries = []
    for unit in units:
        choice = choices[unit.names[0]]
        costs = dict(zip(kinds, choice.costs, strict=True))
        entries.append(
            BudgetEntry(
                weights=tuple(unit.names),
                grid=choice.grid,
                bytes=choice.nbytes,
                predicted_kl=costs,
            )
        )
    return tuple(sorted(entries, key=lambda entry: -max(entry.predicted_kl.values())))
