"""What the reference stage leaves behind, opened: its probes and questions, and its logits on demand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from edgepeft.checkpoints.base import open_base
from edgepeft.checkpoints.outer_head import OuterHead
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.source import TensorSource
from edgepeft.evaluation.probes import Probe, Question
from edgepeft.evaluation.reference import HEAD, HIDDEN, PROBES
from edgepeft.evaluation.results import ModelFacts

_HEAD_ROWS = 2**15
"""Rows of a head that are widened to float32 together."""


class Head:
    """A head's weight [V, H], of which some rows at a time are in memory as float32.

    That of many tokens is larger than the rest of a small model.
    """

    def __init__(self, source: TensorSource, name: str) -> None:
        """The tensor ``name`` of ``source``; one that must be computed is kept as it is."""
        self._rows: Callable[[int, int], torch.Tensor]
        self.vocabulary = source.specs[name].shape[0]
        if isinstance(source, SafetensorsSource):
            self._rows = partial(source.row_range, name)
        else:
            whole = source.load(name)
            self._rows = lambda start, stop: whole[start:stop]

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits float32 [T, V] of hidden states [T, H]."""
        logits = torch.empty(len(hidden), self.vocabulary)
        for start in range(0, self.vocabulary, _HEAD_ROWS):
            stop = min(start + _HEAD_ROWS, self.vocabulary)
            logits[:, start:stop] = hidden @ self._rows(start, stop).to(torch.float32).T
        return logits


@dataclass(frozen=True)
class Reference:
    """A finished reference stage: probes, questions, facts, and logits on demand."""

    record: Mapping[str, Any]
    hidden: SafetensorsSource
    head: Head
    outer: OuterHead

    @classmethod
    def open(cls, folder: Path, base: Path) -> Reference:
        """Open the stage's folder; the head is the base's own, unless the adapter changed it."""
        record = json.loads((folder / PROBES).read_text(encoding="utf-8"))
        hidden = SafetensorsSource.from_file(folder / HIDDEN)
        changed = HEAD in hidden.specs
        head = Head(hidden, HEAD) if changed else Head(open_base(base), record["head"])
        return cls(record, hidden, head, OuterHead(**record["outer_head"]))

    def probes(self, kind: str) -> list[Probe]:
        """The probes of one kind."""
        return [Probe(**entry) for entry in self.record[kind]]

    def questions(self) -> list[Question]:
        """The questions for exact match."""
        return [Question(**entry) for entry in self.record["questions"]]

    def facts(self, who: Literal["base", "reference"]) -> ModelFacts:
        """What was measured of the bare base, or of the reference itself."""
        return ModelFacts.model_validate(self.record[who])

    def logits(
        self, kind: str, index: int, chosen: slice | Sequence[int] = slice(None)
    ) -> torch.Tensor:
        """Reference logits float32 [T, V] at a probe's scored positions, or at the ``chosen`` ones of them."""
        return self.outer(self.head(self.hidden.load(f"{kind}.{index}")[chosen]))
