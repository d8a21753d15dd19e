"""Rows as encoders read them, for training, reference, measures and witness alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from edgepeft.checkpoints.base_stage import EncoderFacts
from edgepeft.data.control_tokens import Policy
from edgepeft.data.rows import Row
from edgepeft.data.texts import TextEncoder, spans_of
from edgepeft.models.tasks import EMBEDDING, TAGGING

SCALE = 20.0
"""Cosines are multiplied with this before they compete, as in sentence-transformers."""


@dataclass(frozen=True)
class Example:
    """A row as an encoder reads it.

    ``ids`` are its token ids; ``positions`` the tokens whose prediction counts and ``targets`` the label indices
    wanted there (a text's one label has position 0). ``other`` are the ids of a pair's positive.
    """

    ids: list[int]
    positions: list[int]
    targets: list[int]
    other: list[int] | None
    where: str


def encode_row(row: Row, task: str, encoder: TextEncoder, labels: Sequence[str]) -> Example:
    """A row's example. Words that were cut off have no target."""
    encoded = encoder.encode(row.text or "")
    if task == EMBEDDING:
        other = encoder.encode(row.positive or "").ids
        return Example(encoded.ids, [], [], other, row.where)
    if task != TAGGING:
        return Example(encoded.ids, [0], [labels.index(row.label or "")], None, row.where)
    found = zip(encoded.first_tokens(spans_of(row.words or ())), row.tags or (), strict=True)
    kept = [(at, labels.index(tag)) for at, tag in found if at is not None]
    return Example(encoded.ids, [at for at, _ in kept], [t for _, t in kept], None, row.where)


def open_encoder(base: Path, policy: Policy, max_length: int | None = None) -> TextEncoder:
    """The text encoder of a staged base, at the model's length or ``max_length``, whichever is less."""
    longest = EncoderFacts.read(base).context_length
    return TextEncoder(base, min(max_length or longest, longest), policy)


def contrast(anchors: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
    """Scores float32 [B, B] of each anchor with each positive: cosines times ``SCALE``."""
    unit = torch.nn.functional.normalize
    return SCALE * unit(anchors, dim=-1) @ unit(positives, dim=-1).T
