"""What calibrated rounding looks at: training rows of the task and generic text, never what is measured on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from edgepeft.calibration.corpora import calibration_text
from edgepeft.calibration.settings import CalibratedSettings
from edgepeft.calibration.unmerged import calibration_lead
from edgepeft.checkpoints.base import checkpoint_folder
from edgepeft.checkpoints.base_stage import EncoderFacts
from edgepeft.checkpoints.skeleton import context_length, model_config
from edgepeft.data.encoded import Encoded
from edgepeft.data.formats import read_text
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Row
from edgepeft.data.texts import TextEncoder
from edgepeft.errors import InputError
from edgepeft.merging.stage import open_unmerged
from edgepeft.models.tasks import GENERATION
from edgepeft.stages.job import Job

WINDOW = 256
"""Tokens of one sequence at most."""
ROWS_AT_ONCE = 16
"""Sequences of one batch at most."""
Kind = Literal["task", "generic"]
_Sequence = tuple[list[int], list[bool]]
"""Token ids, and for each whether its prediction is judged."""


@dataclass(frozen=True)
class Batch:
    """Sequences of one kind of data.

    ``ids`` int64 [B, T], padded on the right; ``mask`` bool [B, T]: which are no padding; ``scored`` bool [B, T]:
    whose prediction of the next token is judged, which in task rows is what the answer's tokens follow.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    scored: torch.Tensor
    kind: Kind

    @property
    def tokens(self) -> int:
        """How many tokens there are without the padding."""
        return int(self.mask.sum())


class Reader(Protocol):
    """What turns rows and plain text into the sequences that are looked at."""

    def row(self, row: Row) -> Encoded:
        """Ids of a row, and which of its tokens are judged."""
        ...

    def text(self, text: str) -> list[int]:
        """Ids of plain text."""
        ...


class _WholeTexts:
    """Rows and plain text as an encoder reads them: every token counts."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder

    def row(self, row: Row) -> Encoded:
        ids = self._encoder.encode(row.text or "", row.pair).ids
        return Encoded(ids, [1] * len(ids))

    def text(self, text: str) -> list[int]:
        self._encoder.tokenizer.no_truncation()
        ids = self._encoder.encode(text).ids
        self._encoder.tokenizer.enable_truncation(self._encoder.max_length)
        return ids


def calibration_batches(
    rows: Sequence[Row],
    prompter: Reader,
    text: str,
    *,
    task_tokens: int,
    generic_tokens: int,
    seed: int,
    other_end: bool = False,
    lead: int = 0,
    rows_at_once: int = ROWS_AT_ONCE,
    window: int = WINDOW,
) -> list[Batch]:
    """Sequences up to the token counts wanted, or as many as there are.

    ``window`` are the tokens of one sequence at most, ``rows_at_once`` sequences make a batch. ``lead`` virtual
    tokens go before each: ids that stand for nothing, masked out, whose embeddings the model they run through
    has been given.

    ``other_end`` takes rows and text from the far end, which the near end's choice hasn't seen where there is
    enough of both. Raises InputError where neither rows nor text hold a sequence of two tokens.
    """
    chosen = list(rows)
    random.Random(seed).shuffle(chosen)
    if other_end:
        chosen.reverse()
    task: list[_Sequence] = []
    for row in chosen:
        if sum(len(ids) for ids, _ in task) >= task_tokens:
            break
        encoded = prompter.row(row)
        # A position is judged by the token after it.
        judged = [*map(bool, encoded.mask[1:]), False]
        if len(encoded.ids) > 1:
            # The answer stands at the end.
            task.append((encoded.ids[-window:], judged[-window:]))
    words = prompter.text(text)
    words = words[max(0, len(words) - generic_tokens) :] if other_end else words[:generic_tokens]
    pieces = [words[i : i + window] for i in range(0, len(words), window)]
    generic = [(ids, [True] * len(ids)) for ids in pieces if len(ids) > 1]
    if not task and not generic:
        raise InputError("the calibration data is empty: neither training rows nor text to look at")
    # Rows of like length side by side leave little padding.
    task.sort(key=lambda sequence: len(sequence[0]))
    parts: tuple[tuple[list[_Sequence], Kind], ...] = ((task, "task"), (generic, "generic"))
    return [
        _batch(part[start : start + rows_at_once], kind, lead)
        for part, kind in parts
        for start in range(0, len(part), rows_at_once)
    ]


def job_calibration(
    job: Job[CalibratedSettings],
    tokens: int,
    *,
    other_end: bool = False,
    rows_at_once: int = ROWS_AT_ONCE,
) -> list[Batch]:
    """A job's calibration data, ``tokens`` of it: training rows if it names any, and generic text.

    ``other_end`` and ``rows_at_once`` as in ``calibration_batches``. Warns where there is less than half of that.
    Raises InputError.
    """
    data, wanted = job.settings.data, job.settings.quantize.calibration
    lead = calibration_lead(open_unmerged(job))
    # Past its context a model with learned positions fails, and another says nothing of what it will be asked.
    window = min(WINDOW, _context(job) - lead)
    prompter: Reader
    if job.settings.task != GENERATION:
        prompter = _WholeTexts(TextEncoder(job.inputs["base"], window, data.control_tokens))
    else:
        prompter = Prompter.from_folder(
            job.inputs["base"], job.template(data.template), data.control_tokens
        )
    rows: list[Row] = []
    if "calibration_rows" in job.inputs:
        rows = data.train_rows(job.inputs["calibration_rows"])
    text = calibration_text()
    if "calibration_text" in job.inputs:
        text = read_text(job.inputs["calibration_text"], "quantize.calibration.text")
    task = int(tokens * wanted.task_share) if rows else 0
    batches = calibration_batches(
        rows,
        prompter,
        text,
        task_tokens=task,
        generic_tokens=tokens - task,
        seed=wanted.seed,
        other_end=other_end,
        lead=lead,
        rows_at_once=rows_at_once,
        window=window,
    )
    found = sum(batch.tokens for batch in batches)
    if found < tokens // 2:
        job.events.warning(
            f"calibration has {found} tokens of the {tokens} wanted "
            "(quantize.calibration); give it more text, or expect more loss"
        )
    return batches


def _context(job: Job[CalibratedSettings]) -> int:
    """Tokens that the model of a job reads at most."""
    if job.settings.task != GENERATION:
        return EncoderFacts.read(job.inputs["base"]).context_length
    return context_length(model_config(checkpoint_folder(job.inputs["base"])))


def _batch(sequences: list[_Sequence], kind: Kind, lead: int) -> Batch:
    longest = lead + max(len(ids) for ids, _ in sequences)
    ids = torch.zeros(len(sequences), longest, dtype=torch.int64)
    mask = torch.zeros(len(sequences), longest, dtype=torch.bool)
    scored = torch.zeros(len(sequences), longest, dtype=torch.bool)
    for index, (tokens, judged) in enumerate(sequences):
        own = slice(lead, lead + len(tokens))
        ids[index, own] = torch.tensor(tokens)
        mask[index, own] = True
        scored[index, own] = torch.tensor(judged)
    return Batch(ids, mask, scored, kind)
