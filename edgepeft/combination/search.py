"""Looking for the combination of adapters that keeps most of each task, on rows that the report leaves out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgepeft.combination.methods import REGMEAN, Combination, drops_values
from edgepeft.combination.scoring import Score
from edgepeft.errors import InputError

METHODS = (REGMEAN, "cat", "linear", "ties", "dare_linear", "magnitude_prune")
"""Those that are tried where none is asked for: no singular values to work out, so most trials are quick."""
DENSITY = 0.5
_STEP, _LEAST_STEP = 0.3, 0.05

Scores = Mapping[str, Score]


@dataclass(frozen=True)
class Trial:
    """A combination and what it keeps: for each task its exact match as a share of its own adapter's, and its
    loss in nats per token.
    """

    how: Combination
    kept: Mapping[str, float]
    losses: Mapping[str, float]

    @property
    def merit(self) -> tuple[float, float]:
        """The task that is worst off decides: by what it keeps, then by its loss, which few rows tell finer."""
        return min(1.0, *self.kept.values()), -max(self.losses.values())

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**asdict(self.how), "kept": dict(self.kept), "losses": dict(self.losses)}


def search(
    start: Combination,
    methods: Sequence[str],
    before: Scores,
    measure: Callable[[Combination], Scores],
    trials: int,
) -> list[Trial]:
    """Try methods with the weights of ``start``, then other weights with the best of them; the best trial first.

    ``before`` are the adapters' own scores on the rows that ``measure`` uses. Weights are moved one by one and
    all together, by steps that are halved where none helps. Raises InputError where no combination can be made.
    """
    done: dict[Combination, Trial] = {}
    refused: list[InputError] = []

    def attempt(how: Combination) -> None:
        if how in done or len(done) >= trials:
            return
        try:
            scores = measure(how)
        except InputError as error:
            refused.append(error)
            return
        kept = {name: _share(score, before[name]) for name, score in scores.items()}
        done[how] = Trial(how, kept, {name: score.loss for name, score in scores.items()})

    for method in methods:
        density = (start.density or DENSITY) if drops_values(method) else None
        rank = start.rank if "svd" in method else None
        attempt(replace(start, method=method, density=density, rank=rank))
    if not done:
        raise refused[0]
    step = _STEP
    while len(done) < trials and step > _LEAST_STEP:
        best = max(done.values(), key=lambda trial: trial.merit)
        for weights in _around(best.how, step):
            attempt(replace(best.how, weights=weights))
        if max(done.values(), key=lambda trial: trial.merit) is best:
            step /= 2
    return sorted(done.values(), key=lambda trial: trial.merit, reverse=True)


def _share(after: Score, before: Score) -> float:
    """What is kept of an exact match; a task that was never done has nothing to lose."""
    return after.exact_match / before.exact_match if before.right else 1.0


def _around(how: Combination, step: float) -> Iterator[tuple[float, ...]]:
    weights = how.weights
    for change in (-step, step):
        # Of what is fitted the weights' ratios alone count.
        if how.method != REGMEAN:
            yield _rounded(weight + change for weight in weights)
        for index, weight in enumerate(weights):
            yield _rounded((*weights[:index], weight + change, *weights[index + 1 :]))


def _rounded(weights: Any) -> tuple[float, ...]:
    return tuple(round(weight, 3) for weight in weights)
