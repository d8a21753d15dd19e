"""Which judge each task of encoders has."""

from __future__ import annotations

from collections.abc import Callable

from edgepeft.checkpoints.base_stage import EncoderFacts
from edgepeft.metrics.judge import Judge
from edgepeft.metrics.labels import LabelJudge, SeveralLabelsJudge, TagJudge
from edgepeft.metrics.ranking import ScoreJudge
from edgepeft.metrics.vectors import VectorJudge
from edgepeft.models.scoring import Scoring
from edgepeft.models.tasks import CLASSIFICATION, EMBEDDING, MULTI_LABEL, RANKING, TAGGING

_JUDGES: dict[str, Callable[[EncoderFacts], Judge]] = {
    CLASSIFICATION: lambda facts: LabelJudge(facts.labels),
    MULTI_LABEL: lambda facts: SeveralLabelsJudge(facts.labels),
    TAGGING: lambda facts: TagJudge(facts.labels),
    RANKING: lambda facts: ScoreJudge(facts.scoring or Scoring()),
    EMBEDDING: lambda facts: VectorJudge(),
}


def judge_of(facts: EncoderFacts) -> Judge:
    """The judge of a staged base's task."""
    return _JUDGES[facts.task](facts)
