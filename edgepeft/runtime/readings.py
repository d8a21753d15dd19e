"""What an encoder makes of a text, as commands and the wizard show it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgepeft.models.tasks import CLASSIFICATION, TAGGING

if TYPE_CHECKING:
    from edgepeft.runtime import Bundle, Encoder


def left_out(bundle: Bundle, tokens: int) -> str:
    """What is said of a text that was too long by so many tokens."""
    return (
        f"the text is longer than the {bundle.context_length} tokens that this model reads; "
        f"the last {tokens} tokens were left out"
    )


def reading(encoder: Encoder, text: str) -> dict[str, Any]:
    """What a model makes of a text: ``labels``, ``spans`` or a ``vector``. Raises InputError for an empty one."""
    if encoder.bundle.task == CLASSIFICATION:
        return {"labels": [asdict(label) for label in encoder.classify(text)]}
    if encoder.bundle.task == TAGGING:
        return {"spans": [asdict(span) for span in encoder.spans(text)]}
    return {"vector": encoder.embed(text).tolist()}
