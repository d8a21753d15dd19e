"""The measures of rankers: a passage's score for a query, and the order that scores put passages in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from edgepeft.metrics.encoder_examples import Example
from edgepeft.metrics.judge import Answer, Outputs, Quality, bernoulli_kl
from edgepeft.models.scoring import Scoring

_LEAST_SPREAD = 1e-3
"""Standard deviation below which scores count as all the same."""


class ScoreJudge:
    """``ndcg`` over the queries with passages of several worths, None without any, and ``spearman`` over all
    rows; how near by ``score_difference`` (mean) and ``largest_score_difference``, in standard deviations of the
    reference's scores, ``rank_agreement``, and ``task_kl`` where scores are probabilities.
    """

    counted: str | None = None

    def __init__(self, scoring: Scoring) -> None:
        """``scoring`` says what the head's number is held against, and how it becomes a score."""
        self._scoring = scoring

    def quality(self, outputs: Outputs, examples: Sequence[Example]) -> Quality:
        """Binary cross-entropy in nats or squared error per row, and the shares."""
        numbers, wanted = _numbers(outputs), _wanted(examples)
        loss = score_loss(numbers, wanted, self._scoring)
        gains = [
            ndcg(numbers[rows], wanted[rows])
            for rows in _queries(examples).values()
            if len(rows) > 1
        ]
        told = [gain for gain in gains if gain is not None]
        shares = {
            "ndcg": sum(told) / len(told) if told else None,
            "spearman": spearman(numbers, wanted),
        }
        return Quality(float(loss), shares)

    def answers(self, outputs: Outputs, examples: Sequence[Example]) -> list[Answer]:
        """Each passage's rank among those of its query, 1 the best; right where none that is worth less stands
        above it and none that is worth more below.
        """
        numbers, wanted = _numbers(outputs), _wanted(examples)
        found: dict[int, Answer] = {}
        for rows in _groups(examples):
            for at in rows:
                higher, above = wanted[rows] > wanted[at], numbers[rows] >= numbers[at]
                lower = wanted[rows] < wanted[at]
                right = not bool(
                    (higher & (numbers[rows] <= numbers[at])).any() | (lower & above).any()
                )
                better = int((numbers[rows] > numbers[at]).sum())
                found[at] = Answer(right, f"rank {1 + int(higher.sum())}", f"rank {1 + better}")
        return [found[at] for at in range(len(examples))]

    def closeness(
        self, reference: Outputs, other: Outputs, examples: Sequence[Example]
    ) -> dict[str, Any]:
        """Differences of the scores that a device gives, and of the order of passages."""
        mine, theirs = _numbers(reference), _numbers(other)
        scores = [_activated(one, self._scoring).double() for one in (mine, theirs)]
        spread = max(float(scores[0].std(correction=0)), _LEAST_SPREAD)
        off = (scores[0] - scores[1]).abs() / spread
        facts: dict[str, Any] = {
            "score_difference": float(off.mean()),
            "largest_score_difference": float(off.max()),
            "rank_agreement": rank_agreement(mine, theirs, _groups(examples)),
        }
        if self._scoring.loss == "bce":
            facts["task_kl"] = bernoulli_kl(mine, theirs)
        return facts

    def targets(self, examples: Sequence[Example]) -> int:
        """Rows."""
        return len(examples)


def score_loss(numbers: torch.Tensor, wanted: torch.Tensor, scoring: Scoring) -> torch.Tensor:
    """What training lowers: of a head's numbers float32 [B] and the scores wanted."""
    if scoring.loss == "bce":
        return torch.nn.functional.binary_cross_entropy_with_logits(numbers, wanted)
    return torch.nn.functional.mse_loss(numbers, wanted)


def ndcg(numbers: torch.Tensor, worth: torch.Tensor) -> float | None:
    """Normalized discounted cumulative gain of passages in the order of their numbers, both float32 [P].

    Gains are the worths above the least one or zero; among equal numbers every order counts the same, as in
    McSherry and Najork, https://doi.org/10.1007/978-3-540-78646-7_38. None where all are worth the same.
    """
    gains = worth.double() - min(0.0, float(worth.min()))
    if float(gains.max()) == float(gains.min()):
        return None
    discounts = 1 / torch.log2(torch.arange(len(gains), dtype=torch.float64) + 2)
    best = float((gains.sort(descending=True).values * discounts).sum())
    total = 0.0
    for value in numbers.unique():
        alike = numbers == value
        first = int((numbers > value).sum())
        share = discounts[first : first + int(alike.sum())]
        total += float(gains[alike].mean() * share.sum())
    return total / best


def spearman(one: torch.Tensor, other: torch.Tensor) -> float | None:
    """Correlation of the ranks of two sets of numbers, float32 [N], ties at their mean rank; None where the
    second are all the same, 0 where only the first are.
    """
    a, b = (_ranks(values) for values in (one, other))
    a, b = a - a.mean(), b - b.mean()
    if not float(b.square().sum()):
        return None
    scale = float((a.square().sum() * b.square().sum()).sqrt())
    return float((a * b).sum()) / scale if scale else 0.0


def rank_agreement(
    reference: torch.Tensor, other: torch.Tensor, groups: Sequence[Sequence[int]]
) -> float:
    """The share of pairs of one group that the reference puts in an order and the other in the same; a tie counts
    half. 1 where it orders none.
    """
    right, pairs = 0.0, 0
    for rows in groups:
        mine, theirs = reference[list(rows)], other[list(rows)]
        for at in range(len(rows)):
            above = mine[at] > mine
            pairs += int(above.sum())
            right += float((theirs[at] > theirs)[above].sum())
            right += 0.5 * float((theirs[at] == theirs)[above].sum())
    return right / pairs if pairs else 1.0


def _ranks(values: torch.Tensor) -> torch.Tensor:
    _, places, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    found: torch.Tensor = (ends - (counts.double() - 1) / 2)[places]
    return found


def _numbers(outputs: Outputs) -> torch.Tensor:
    return torch.cat(list(outputs)).flatten()


def _wanted(examples: Sequence[Example]) -> torch.Tensor:
    return torch.tensor([example.score for example in examples])


def _activated(numbers: torch.Tensor, scoring: Scoring) -> torch.Tensor:
    return numbers.sigmoid() if scoring.activation == "sigmoid" else numbers


def _queries(examples: Sequence[Example]) -> Mapping[str, list[int]]:
    found: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        found.setdefault(example.query, []).append(index)
    return found


def _groups(examples: Sequence[Example]) -> list[list[int]]:
    """Rows whose scores are compared: those of each query, or all where no query has two passages."""
    queries = list(_queries(examples).values())
    several = any(len(rows) > 1 for rows in queries)
    return queries if several else [list(range(len(examples)))]
