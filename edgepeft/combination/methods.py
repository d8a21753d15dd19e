"""How adapters may be combined: names, weights and densities, checked without loading torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgepeft.errors import InputError, unknown_name

REGMEAN = "regmean"
MOMENT_BYTES = 2 << 30
"""Of the moments that regmean holds at a time; what it can't hold it fits in further passes over the rows."""

METHODS: Mapping[str, str] = {
    "linear": "factors added up as they are: cheap, and rough, because products of unlike factors come in",
    "cat": "factors side by side: the exact sum, of all ranks together",
    "svd": "the exact sum, cut back to one rank",
    "ties": "small values dropped, signs settled by majority, then averaged; on the factors",
    "ties_svd": "the same on the change itself, cut back to one rank",
    "dare_linear": "values dropped at random and the rest scaled up, then added; on the factors",
    "dare_linear_svd": "the same on the change itself, cut back to one rank",
    "dare_ties": "values dropped at random and scaled up, signs settled by majority; on the factors",
    "dare_ties_svd": "the same on the change itself, cut back to one rank",
    "magnitude_prune": "small values dropped, then added; on the factors",
    "magnitude_prune_svd": "the same on the change itself, cut back to one rank",
    REGMEAN: "changes fitted together, by least squares on rows of every task",
}
"""PEFT's names but for the last, and what each does."""


@dataclass(frozen=True)
class Combination:
    """One way to combine: a method of ``METHODS``, a weight for each adapter, and limits.

    A negative weight takes an adapter away, where changes are added up. ``density`` is the share of values that
    stay, for methods that drop some; ``rank`` that of the result, for methods that cut back (default: the largest
    among the adapters); ``seed`` is that of what is dropped.
    """

    method: str
    weights: tuple[float, ...]
    density: float | None = None
    rank: int | None = None
    seed: int = 0


def drops_values(method: str) -> bool:
    """Whether a method drops values, and so needs a density."""
    return any(word in method for word in ("ties", "dare", "magnitude"))


def read_weights(text: str | None, adapters: int) -> tuple[float, ...]:
    """Weights written as ``0.6,0.4``; all 1 where nothing is said. Raises InputError."""
    if text is None:
        return (1.0,) * adapters
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--weights: {text}: write one number per adapter, as 0.6,0.4") from None


def check_combination(how: Combination, adapters: int, *, rows: bool = False) -> None:
    """Raise InputError, naming the recipe's key, for what doesn't go together.

    ``rows`` says whether there are rows of every task.
    """
    if how.method == REGMEAN and not rows:
        raise InputError(
            "combine.method: regmean is fitted to rows of every task; edgepeft combine takes them, with --test "
            "NAME=FILE for each"
        )
    if how.method not in METHODS:
        raise unknown_name("combine.method", "combination", how.method, METHODS)
    if adapters < 2:
        raise InputError("combine: name at least two adapters")
    if len(how.weights) != adapters:
        raise InputError(f"adapter.weight: {len(how.weights)} weights for {adapters} adapters")
    if not all(math.isfinite(weight) for weight in how.weights) or not any(how.weights):
        raise InputError("adapter.weight: must be finite numbers, and not all of them 0")
    if how.method == REGMEAN and min(how.weights) <= 0:
        raise InputError("adapter.weight: regmean weighs errors, so every weight must be above 0")
    drops = drops_values(how.method)
    if drops and (how.density is None or not 0 < how.density <= 1):
        raise InputError(
            f"combine.density: {how.method} needs the share of values that stay, above 0 and at most 1"
        )
    if not drops and how.density is not None:
        raise InputError(f"combine.density: {how.method} drops nothing; leave it out")
    if how.rank is not None and "svd" not in how.method:
        raise InputError(
            f"combine.rank: {how.method} has no rank to choose; take a method that ends in svd"
        )
    if how.rank is not None and not 1 <= how.rank <= 4096:
        raise InputError(f"combine.rank: {how.rank} must be a whole number from 1 to 4096")
