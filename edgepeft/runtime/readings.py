"""What an encoder makes of a text, as commands and the wizard show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgepeft.errors import InputError
from edgepeft.models.tasks import OF_WHOLE_TEXTS, RANKING, TAGGING

if TYPE_CHECKING:
    from edgepeft.runtime import Bundle, Encoder


def left_out(bundle: Bundle, tokens: int) -> str:
    """What is said of a text that was too long by so many tokens."""
    return (
        f"the text is longer than the {bundle.context_length} tokens that this model reads; "
        f"the last {tokens} tokens were left out"
    )


def reading(encoder: Encoder, text: str, seconds: Sequence[str] = ()) -> dict[str, Any]:
    """What a model makes of a text: ``labels``, ``spans``, a ``vector``, or ``passages`` in the order of their
    scores; ``seconds`` are the texts that are read with it, of a ranker its passages.

    Raises InputError for an empty text, and for second ones that the model does not read, or not so many.
    """
    if encoder.reads_pairs and not seconds:
        raise InputError(
            "text: this model reads two texts together; ask it with `edgepeft run BUNDLE TEXT --pair TEXT`"
        )
    if encoder.bundle.task == RANKING:
        return {"passages": [asdict(one) for one in encoder.rank(text, seconds)]}
    if encoder.bundle.task in OF_WHOLE_TEXTS:
        second = seconds[0] if seconds else None
        return {"labels": [asdict(label) for label in encoder.classify(text, second)]}
    if encoder.bundle.task == TAGGING:
        return {"spans": [asdict(span) for span in encoder.spans(text)]}
    return {"vector": encoder.embed(text).tolist()}
