"""What a model is for. Nothing heavy is imported: planning, the runtime and every stage ask here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Task = Literal[
    "text-generation",
    "text-classification",
    "multi-label-classification",
    "token-classification",
    "text-ranking",
    "feature-extraction",
]
GENERATION: Task = "text-generation"
CLASSIFICATION: Task = "text-classification"
MULTI_LABEL: Task = "multi-label-classification"
TAGGING: Task = "token-classification"
RANKING: Task = "text-ranking"
EMBEDDING: Task = "feature-extraction"


@dataclass(frozen=True)
class EncoderTask:
    """A task of encoders.

    ``auto_class`` is transformers' class that loads a model for it, ``peft_type`` PEFT's name for it, ``output``
    the name of the graph's output, and ``columns`` what a row of its data has. ``problem_type`` is what
    transformers calls the choice that a head makes; ``labelled`` says whether its outputs have names. ``hub`` is
    the task's name on the hub, and optimum's.
    """

    auto_class: str
    peft_type: str
    output: str
    columns: tuple[str, ...]
    hub: str
    problem_type: str | None = None
    labelled: bool = False

    @property
    def has_head(self) -> bool:
        """Whether a head of the task's own reads the body's output."""
        return self.output == "logits"


_OF_TEXTS = ("AutoModelForSequenceClassification", "SEQ_CLS", "logits")

ENCODER_TASKS: dict[str, EncoderTask] = {
    CLASSIFICATION: EncoderTask(
        *_OF_TEXTS, ("text", "label"), CLASSIFICATION, "single_label_classification", labelled=True
    ),
    MULTI_LABEL: EncoderTask(
        *_OF_TEXTS, ("text", "labels"), CLASSIFICATION, "multi_label_classification", labelled=True
    ),
    TAGGING: EncoderTask(
        "AutoModelForTokenClassification",
        "TOKEN_CLS",
        "logits",
        ("tokens", "tags"),
        TAGGING,
        labelled=True,
    ),
    RANKING: EncoderTask(*_OF_TEXTS, ("query", "passage", "score"), RANKING, "regression"),
    EMBEDDING: EncoderTask(
        "AutoModel", "FEATURE_EXTRACTION", "last_hidden_state", ("anchor", "positive"), EMBEDDING
    ),
}
"""The tasks that read a text and generate none."""


def hub_task(task: str) -> str:
    """A task's name on the hub."""
    return ENCODER_TASKS[task].hub if task in ENCODER_TASKS else task


OF_WHOLE_TEXTS = (CLASSIFICATION, MULTI_LABEL, RANKING)
"""Those whose head says one thing of a text, or of two texts read together."""


def auto_class_name(architecture: str) -> str:
    """Transformers' class that loads a checkpoint whose configuration names this architecture."""
    head = head_of(architecture)
    if head == GENERATION:
        return "AutoModelForCausalLM"
    return ENCODER_TASKS[head or EMBEDDING].auto_class


_HEADS: dict[str, Task] = {
    "ForSequenceClassification": CLASSIFICATION,
    "ForTokenClassification": TAGGING,
}
_HEADLESS = ("ForMaskedLM", "ForPreTraining", "Model")


def head_of(architecture: str) -> Task | None:
    """The task that an architecture's own head is for; None for a bare encoder, which takes any.

    What a head over whole texts says, the configuration knows: ``task_of_head``.
    """
    for suffix, task in _HEADS.items():
        if architecture.endswith(suffix):
            return task
    if architecture.endswith(_HEADLESS) and not architecture.endswith("LMHeadModel"):
        return None
    return GENERATION


def task_of_head(architecture: str, config: Mapping[str, Any]) -> Task | None:
    """The same by a model's configuration, which tells one label, several, or a single score apart."""
    head = head_of(architecture)
    if head != CLASSIFICATION:
        return head
    if config.get("problem_type") == "multi_label_classification":
        return MULTI_LABEL
    return RANKING if outputs_of_head(config) == 1 else CLASSIFICATION


def outputs_of_head(config: Mapping[str, Any]) -> int:
    """How many numbers a classifier's head gives; transformers leaves two without names unsaid."""
    named = config.get("id2label")
    if isinstance(named, dict):
        return len(named)
    count = config.get("num_labels")
    return count if type(count) is int and count > 0 else 2
