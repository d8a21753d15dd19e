"""What each task's measures are called, in JSON and in tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgepeft.models.tasks import (
    CLASSIFICATION,
    EMBEDDING,
    GENERATION,
    MULTI_LABEL,
    RANKING,
    TAGGING,
)


@dataclass(frozen=True)
class Column:
    """A measure in a table: its title, its name in the JSON, digits behind the point.

    ``base`` and ``reference`` are what stands in their rows; None: their own measure, named with that prefix.
    """

    title: str
    measure: str
    digits: int
    base: str | None = "–"
    reference: str | None = "–"

    def of(self, facts: Mapping[str, Any]) -> float | None:
        """The figure of a bundle's measures; None where it has none."""
        value: float | None = facts.get(self.measure)
        return value


@dataclass(frozen=True)
class Distance:
    """How far a bundle is from the reference in one figure, 0 where they are the same.

    It is a divergence, or what is missing of a ``likeness`` to 1.
    """

    title: str
    measure: str
    likeness: bool = False

    def of(self, facts: Mapping[str, Any]) -> float:
        """The figure of a bundle's measures."""
        value = float(facts[self.measure])
        return 1 - value if self.likeness else value


@dataclass(frozen=True)
class Vocabulary:
    """A task's measures: ``contract`` are those that ``build --json`` promises, ``rate`` says how fast it is.

    ``compared`` are the columns of a comparison of bundles, ``distance`` is what its pictures draw, and
    ``nearness`` says in a line what tells how near a bundle is to the reference.
    """

    contract: tuple[str, ...]
    columns: tuple[Column, ...]
    rate: Column
    compared: tuple[Column, ...]
    distance: Distance
    nearness: str = "KL(reference || bundle) of the labels' probabilities, in nats per target"


def _shares(*names: str) -> tuple[str, ...]:
    return tuple(f"{who}{name}" for name in names for who in ("", "reference_", "base_"))


_EXACT = Column("exact match", "exact_match", 3, None, None)
_GENERIC = Column("generic KL", "generic_kl", 4, reference="0")
_TASK_DISTANCE = Distance("task KL (nats per label)", "task_kl")
_KL = Column("task KL", "task_kl", 4, reference="0")
_AGREEMENT = Column("agreement", "label_agreement", 3, reference="1")
_RECOVERY = Column("recovery", "recovery", 3, base="0", reference="1")
_ACCURACY = Column("accuracy", "accuracy", 3, None, None)
_OF_TEXTS = (_ACCURACY, Column("macro F1", "macro_f1", 3, None, None), _KL, _AGREEMENT)
_OF_WORDS = (_ACCURACY, Column("span F1", "span_f1", 3, None, None), _KL, _AGREEMENT)
_OF_LABELS = (
    Column("micro F1", "micro_f1", 3, None, None),
    Column("macro F1", "macro_f1", 3, None, None),
    Column("task KL", "task_kl", 4, reference="0"),
    _AGREEMENT,
)
_OF_SCORES = (
    Column("nDCG", "ndcg", 3, None, None),
    Column("Spearman", "spearman", 3, None, None),
    Column("score difference", "score_difference", 4, reference="0"),
    Column("same order", "rank_agreement", 3, reference="1"),
)
_OF_PAIRS = (
    Column("cosine", "cosine_similarity", 4, reference="1"),
    Column("least cosine", "min_cosine_similarity", 4, reference="1"),
    Column("retrieval", "retrieval_accuracy", 3, None, None),
)
_TEXTS = Column("texts/s", "texts_per_second", 0)

_BY_TASK = {
    GENERATION: Vocabulary(
        (
            "exact_match",
            "reference_exact_match",
            "base_exact_match",
            "task_kl",
            "generic_kl",
            "top1_agreement",
            "recovery",
        ),
        (
            _EXACT,
            _KL,
            _GENERIC,
            Column("top-1", "top1_agreement", 3, reference="1"),
            _RECOVERY,
        ),
        Column("tok/s", "tokens_per_second", 0),
        (
            _EXACT,
            Column("task KL", "task_kl", 5),
            _GENERIC,
            Column("top-1", "generic_top1_agreement", 3),
        ),
        Distance("generic KL (nats per token)", "generic_kl"),
    ),
    CLASSIFICATION: Vocabulary(
        (*_shares("accuracy", "macro_f1"), "task_kl", "label_agreement", "recovery"),
        (*_OF_TEXTS, _RECOVERY),
        _TEXTS,
        _OF_TEXTS,
        _TASK_DISTANCE,
    ),
    MULTI_LABEL: Vocabulary(
        (
            *_shares("micro_f1", "macro_f1", "subset_accuracy"),
            *("task_kl", "label_agreement", "recovery"),
        ),
        (*_OF_LABELS, _RECOVERY),
        _TEXTS,
        _OF_LABELS,
        _TASK_DISTANCE,
    ),
    RANKING: Vocabulary(
        (
            *_shares("ndcg", "spearman"),
            *("score_difference", "largest_score_difference", "rank_agreement", "recovery"),
        ),
        (*_OF_SCORES, _RECOVERY),
        _TEXTS,
        _OF_SCORES,
        Distance("score difference (standard deviations)", "score_difference"),
        "Score differences are from the reference's scores, in standard deviations of these; the same order is "
        "the share of pairs of passages that both put in it",
    ),
    TAGGING: Vocabulary(
        (*_shares("accuracy", "span_f1"), "task_kl", "label_agreement", "recovery"),
        (*_OF_WORDS, _RECOVERY),
        _TEXTS,
        _OF_WORDS,
        _TASK_DISTANCE,
    ),
    EMBEDDING: Vocabulary(
        (
            "cosine_similarity",
            "min_cosine_similarity",
            *_shares("retrieval_accuracy"),
            "recovery",
        ),
        (*_OF_PAIRS, _RECOVERY),
        _TEXTS,
        _OF_PAIRS,
        Distance("1 - cosine", "cosine_similarity", likeness=True),
        "Cosines are between the bundle's vector of a text and the reference's",
    ),
}


def vocabulary(facts: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of measures that say which ``task`` they are of, or of generation where they don't."""
    return _BY_TASK[facts.get("task", GENERATION)]
