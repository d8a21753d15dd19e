"""What the verify stage measures of a bundle, by task; losses and divergences in nats, shares from 0 to 1."""

from __future__ import annotations

from typing import Any, Literal

from edgepeft.evaluation.results import AnswerForm, CallForm, WitnessFacts
from edgepeft.models.tasks import CLASSIFICATION, EMBEDDING, MULTI_LABEL, RANKING, TAGGING
from edgepeft.stages.job import StageResult


class Measures(StageResult):
    """What every task's measures have.

    Losses are of the bundle, the unmerged adapter and the bare base on the test rows; ``recovery`` is how much of
    what training gained the bundle keeps. ``execution`` says in a line who ran the graph: ``executed_on`` did,
    and where that is not its ``provider``, ``not_executed_because`` says why. ``lost`` counts the rows that the
    reference answers right and the bundle does not.
    """

    witness: WitnessFacts | None
    recovery: float | None
    task_loss: float
    reference_task_loss: float
    base_task_loss: float
    rows: int
    lost: int
    threads: int
    provider: str
    executed_on: str
    execution: str
    not_executed_because: str | None
    software_max_difference: float | None


class WrongAnswer(StageResult):
    """A row whose answer is not the wanted one, as far as it was decoded; of an encoder, the labels, or the rows
    whose texts were to be found and were.
    """

    where: str
    wanted: str
    got: str


class Level0(StageResult):
    """Divergence of the first probes with float activations, beside theirs as the bundle has them."""

    task_kl: float
    generic_kl: float
    task_kl_as_shipped: float
    generic_kl_as_shipped: float


class GenerationMeasures(Measures):
    """A model that generates: KL per token on completions (``task_kl``) and on generic text, exact match
    of greedy answers where rows have completions. ``answer_form`` is of a bundle with a schema of its answers,
    ``calls`` of rows with tools.
    """

    task: Literal["text-generation"] = "text-generation"
    exact_match: float | None
    exact_match_interval: tuple[float, float] | None
    reference_exact_match: float | None
    base_exact_match: float | None
    task_kl: float
    generic_kl: float
    top1_agreement: float
    generic_top1_agreement: float
    generic_perplexity: float
    reference_generic_perplexity: float
    task_tokens: int
    generic_tokens: int
    tokens_per_second: float | None
    exact_match_seconds: float
    accuracy_level_0: Level0 | None
    wrong: tuple[WrongAnswer, ...]
    answer_form: AnswerForm | None = None
    calls: CallForm | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON form; what is said of a schema and of tools is left out where there are none."""
        written = super().as_dict()
        for name in ("answer_form", "calls"):
            if written[name] is None:
                written.pop(name)
        return written


class EncoderMeasures(Measures):
    """What measures of encoders have; ``targets`` are what is judged in the rows: texts, words, labels or
    pairs."""

    targets: int
    texts_per_second: float


class LabelMeasures(EncoderMeasures):
    """What measures of classifiers have, of texts and of words."""

    accuracy: float
    reference_accuracy: float
    base_accuracy: float
    accuracy_interval: tuple[float, float]
    task_kl: float
    label_agreement: float


class ClassificationMeasures(LabelMeasures):
    """A classifier of texts."""

    task: Literal["text-classification"] = "text-classification"
    macro_f1: float
    reference_macro_f1: float
    base_macro_f1: float


class SeveralLabelsMeasures(EncoderMeasures):
    """A classifier that gives a text any number of labels; divergence and agreement are per text and label."""

    task: Literal["multi-label-classification"] = "multi-label-classification"
    micro_f1: float
    reference_micro_f1: float
    base_micro_f1: float
    macro_f1: float
    reference_macro_f1: float
    base_macro_f1: float
    subset_accuracy: float
    reference_subset_accuracy: float
    base_subset_accuracy: float
    task_kl: float
    label_agreement: float


class RankingMeasures(EncoderMeasures):
    """A ranker: the order of passages, None where rows say nothing of it, and how far its scores are from the
    reference's, in standard deviations of those; ``task_kl`` where scores are probabilities.
    """

    task: Literal["text-ranking"] = "text-ranking"
    ndcg: float | None
    reference_ndcg: float | None
    base_ndcg: float | None
    spearman: float | None
    reference_spearman: float | None
    base_spearman: float | None
    score_difference: float
    largest_score_difference: float
    rank_agreement: float
    task_kl: float | None = None


class TaggingMeasures(LabelMeasures):
    """A classifier of words; ``span_f1`` counts whole spans with their labels."""

    task: Literal["token-classification"] = "token-classification"
    span_f1: float
    reference_span_f1: float
    base_span_f1: float


class EmbeddingMeasures(EncoderMeasures):
    """A model of embeddings: cosines with the reference's vectors, and how often an anchor finds its positive."""

    task: Literal["feature-extraction"] = "feature-extraction"
    retrieval_accuracy: float
    reference_retrieval_accuracy: float
    base_retrieval_accuracy: float
    retrieval_accuracy_interval: tuple[float, float]
    cosine_similarity: float
    min_cosine_similarity: float


MEASURES_OF: dict[str, type[EncoderMeasures]] = {
    CLASSIFICATION: ClassificationMeasures,
    MULTI_LABEL: SeveralLabelsMeasures,
    RANKING: RankingMeasures,
    TAGGING: TaggingMeasures,
    EMBEDDING: EmbeddingMeasures,
}
