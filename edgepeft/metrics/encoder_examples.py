"""Rows as encoders read them, for training, reference, measures and witness alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from edgepeft.checkpoints.base_stage import EncoderFacts
from edgepeft.data.control_tokens import Policy
from edgepeft.data.rows import Row
from edgepeft.data.texts import TextEncoder, spans_of
from edgepeft.errors import InputError
from edgepeft.models.tasks import CLASSIFICATION, EMBEDDING, MULTI_LABEL, RANKING, TAGGING

SCALE = 20.0
"""Cosines are multiplied with this before they compete, as in sentence-transformers."""


@dataclass(frozen=True)
class Example:
    """A row as an encoder reads it.

    ``ids`` are its token ids; ``positions`` the tokens whose prediction counts and ``targets`` the label indices
    wanted there (those of a text have position 0, one or several). ``other`` are the ids of a pair's positive,
    ``negative`` those of a text that means something else. ``types`` tell two texts that are read together apart,
    where the model is told; ``query`` and ``score`` are a ranker's.
    """

    ids: list[int]
    positions: list[int]
    targets: list[int]
    other: list[int] | None
    where: str
    negative: list[int] | None = None
    types: list[int] | None = None
    query: str = ""
    score: float = 0.0


def encode_row(row: Row, facts: EncoderFacts, encoder: TextEncoder) -> Example:
    """A row's example. Words that were cut off have no target. Raises InputError for a row of another task."""
    return _ENCODE[facts.task](row, facts, encoder)


def _of_label(row: Row, facts: EncoderFacts, encoder: TextEncoder) -> Example:
    return _of_text(row, facts, encoder, [facts.labels.index(row.label or "")])


def _of_labels(row: Row, facts: EncoderFacts, encoder: TextEncoder) -> Example:
    return _of_text(row, facts, encoder, [facts.labels.index(one) for one in row.labels or ()])


def _of_score(row: Row, facts: EncoderFacts, encoder: TextEncoder) -> Example:
    return _of_text(row, facts, encoder, [], query=row.text or "", score=row.score or 0.0)


def _of_text(
    row: Row,
    facts: EncoderFacts,
    encoder: TextEncoder,
    targets: list[int],
    *,
    query: str = "",
    score: float = 0.0,
) -> Example:
    if facts.paired != (row.pair is not None):
        lacks, has = ("a second text", "none") if facts.paired else ("one text", "two")
        raise InputError(f"{row.where}: the model reads {lacks}, and this row has {has}")
    encoded = encoder.encode(row.text or "", row.pair)
    types = encoded.types if facts.token_types else None
    return Example(
        encoded.ids, [0], targets, None, row.where, types=types, query=query, score=score
    )


def _of_tags(row: Row, facts: EncoderFacts, encoder: TextEncoder) -> Example:
    encoded = encoder.encode(row.text or "")
    found = zip(encoded.first_tokens(spans_of(row.words or ())), row.tags or (), strict=True)
    kept = [(at, facts.labels.index(tag)) for at, tag in found if at is not None]
    return Example(encoded.ids, [at for at, _ in kept], [t for _, t in kept], None, row.where)


def _of_anchor(row: Row, facts: EncoderFacts, encoder: TextEncoder) -> Example:
    negative = None if row.negative is None else encoder.encode(row.negative).ids
    other = encoder.encode(row.positive or "").ids
    return Example(encoder.encode(row.text or "").ids, [], [], other, row.where, negative)


_ENCODE: dict[str, Callable[[Row, EncoderFacts, TextEncoder], Example]] = {
    CLASSIFICATION: _of_label,
    MULTI_LABEL: _of_labels,
    RANKING: _of_score,
    TAGGING: _of_tags,
    EMBEDDING: _of_anchor,
}


def open_encoder(base: Path, policy: Policy, max_length: int | None = None) -> TextEncoder:
    """The text encoder of a staged base, at the model's length or ``max_length``, whichever is less."""
    longest = EncoderFacts.read(base).context_length
    return TextEncoder(base, min(max_length or longest, longest), policy)


def contrast(anchors: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """Scores float32 [B, C] of each anchor with each candidate: cosines times ``SCALE``."""
    unit = torch.nn.functional.normalize
    return SCALE * unit(anchors, dim=-1) @ unit(candidates, dim=-1).T
