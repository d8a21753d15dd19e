"""What a model is for. Nothing heavy is imported: planning, the runtime and every stage ask here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Task = Literal[
    "text-generation", "text-classification", "token-classification", "feature-extraction"
]
GENERATION: Task = "text-generation"
CLASSIFICATION: Task = "text-classification"
TAGGING: Task = "token-classification"
EMBEDDING: Task = "feature-extraction"


@dataclass(frozen=True)
class EncoderTask:
    """A task of encoders.

    ``auto_class`` is transformers' class that loads a model for it, ``peft_type`` PEFT's name for it, ``output``
    the name of the graph's output, and ``columns`` what a row of its data has.
    """

    auto_class: str
    peft_type: str
    output: str
    columns: tuple[str, ...]


ENCODER_TASKS: dict[str, EncoderTask] = {
    CLASSIFICATION: EncoderTask(
        "AutoModelForSequenceClassification", "SEQ_CLS", "logits", ("text", "label")
    ),
    TAGGING: EncoderTask(
        "AutoModelForTokenClassification", "TOKEN_CLS", "logits", ("tokens", "tags")
    ),
    EMBEDDING: EncoderTask(
        "AutoModel", "FEATURE_EXTRACTION", "last_hidden_state", ("anchor", "positive")
    ),
}
"""The tasks that read a text and generate none; their names are those of optimum's task manager."""


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
    """The task that an architecture's own head is for; None for a bare encoder, which takes any."""
    for suffix, task in _HEADS.items():
        if architecture.endswith(suffix):
            return task
    if architecture.endswith(_HEADLESS) and not architecture.endswith("LMHeadModel"):
        return None
    return GENERATION
