"""What calibrated rounding looks at: training rows of the task and generic text, never what is measured on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from edgepeft.data.formats import read_data, read_text
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Row
from edgepeft.errors import InputError
from edgepeft.fidelity.texts import calibration_text
from edgepeft.stage import Job

WINDOW = 256
"""Tokens of one sequence at most."""
_ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class Batch:
    """Token ids int64 [B, T], padded on the right, and which of them count, bool [B, T]."""

    ids: torch.Tensor
    mask: torch.Tensor

    @property
    def tokens(self) -> int:
        """How many tokens count."""
        return int(self.mask.sum())


def calibration_batches(
    rows: Sequence[Row],
    prompter: Prompter,
    text: str,
    *,
    task_tokens: int,
    generic_tokens: int,
    seed: int,
) -> list[Batch]:
    """Sequences up to the token counts wanted, or as many as there are.

    Raises InputError where neither rows nor text hold a sequence of two tokens.
    """
    chosen = list(rows)
    random.Random(seed).shuffle(chosen)
    task: list[list[int]] = []
    for row in chosen:
        if sum(map(len, task)) >= task_tokens:
            break
        ids = prompter.row(row).ids[:WINDOW]
        if len(ids) > 1:
            task.append(ids)
    words = prompter.text(text)[:generic_tokens]
    generic = [words[i : i + WINDOW] for i in range(0, len(words), WINDOW)]
    generic = [ids for ids in generic if len(ids) > 1]
    if not task and not generic:
        raise InputError("the calibration data is empty: neither training rows nor text to look at")
    # Rows of like length side by side leave little padding.
    task.sort(key=len)
    return [
        _batch(part[start : start + _ROWS_AT_ONCE])
        for part in (task, generic)
        for start in range(0, len(part), _ROWS_AT_ONCE)
    ]


def job_calibration(job: Job, tokens: int) -> list[Batch]:
    """A job's calibration data, ``tokens`` of it: training rows if it names any, and generic text.

    Warns where there is less than half of that. Raises InputError.
    """
    data, wanted = job.settings["data"], job.settings["quantize"]["calibration"]
    prompter = Prompter.from_folder(job.inputs["base"], job.template(data["template"]))
    rows: list[Row] = []
    if "calibration_rows" in job.inputs:
        rows = read_data(job.inputs["calibration_rows"], data)
    text = calibration_text()
    if "calibration_text" in job.inputs:
        text = read_text(job.inputs["calibration_text"], "quantize.calibration.text")
    task = int(tokens * wanted["task_share"]) if rows else 0
    batches = calibration_batches(
        rows,
        prompter,
        text,
        task_tokens=task,
        generic_tokens=tokens - task,
        seed=wanted["seed"],
    )
    found = sum(batch.tokens for batch in batches)
    if found < tokens // 2:
        job.events.warning(
            f"calibration has {found} tokens of the {tokens} wanted "
            "(quantize.calibration); give it more text, or expect more loss"
        )
    return batches


def _batch(sequences: list[list[int]]) -> Batch:
    longest = max(map(len, sequences))
    ids = torch.zeros(len(sequences), longest, dtype=torch.int64)
    mask = torch.zeros(len(sequences), longest, dtype=torch.bool)
    for index, sequence in enumerate(sequences):
        ids[index, : len(sequence)] = torch.tensor(sequence)
        mask[index, : len(sequence)] = True
    return Batch(ids, mask)
