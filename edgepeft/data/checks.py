"""What can be said about the data before anything is trained on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Row
from edgepeft.errors import InputError

FEW_ROWS = 500
"""Below this many training rows a fine-tune is more likely to memorize than to learn."""
VERY_LONG = 8
"""A row this many times ``max_length`` is more likely a mistake in the file than a long text."""
BUCKETS = 8


@dataclass(frozen=True)
class Lengths:
    """How many tokens rows have, prompt and completion together.

    Bucket ``i`` counts the rows longer than ``edges[i]`` and at most ``edges[i + 1]`` tokens.
    """

    edges: tuple[int, ...]
    counts: tuple[int, ...]
    median: int
    longest: int


@dataclass(frozen=True)
class DataReport:
    """What `check_data` found. Shares are of the training rows, between 0 and 1.

    ``truncated`` rows are longer than ``max_length``; of those, ``completion_cut`` keep no token
    of their completion. ``duplicates`` counts training rows that repeat an earlier one;
    ``overlap`` the test rows whose prompt is also a training prompt, ``overlap_example`` one pair.
    """

    train_rows: int
    test_rows: int
    max_length: int
    train_lengths: Lengths | None
    test_lengths: Lengths
    truncated: int
    truncated_share: float
    completion_cut: int
    duplicates: int
    overlap: int
    overlap_example: str | None
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        return dataclasses.asdict(self)


def check_data(
    train: Sequence[Row], test: Sequence[Row], prompter: Prompter, *, max_length: int
) -> DataReport:
    """Measure both splits in tokens and warn of what would spoil training or the report.

    ``train`` may be empty (an adapter that exists needs none); ``max_length`` is in tokens. Raises
    InputError without test rows, for an empty completion, and for rows the template refuses.
    """
    if not test:
        raise InputError("data.test: no test rows; the gates need rows that were not trained on")
    for row in (*train, *test):
        if not row.completion.strip():
            raise InputError(f"{row.where}: the completion is empty; fill it in or drop the row")
    sizes = [tuple(map(len, prompter.split(row))) for row in train]
    lengths = [prompt + completion for prompt, completion in sizes]
    tests = [sum(map(len, prompter.split(row))) for row in test]
    cut = [row for row, (prompt, _) in zip(train, sizes, strict=True) if prompt >= max_length]
    truncated = sum(length > max_length for length in lengths)
    overlap, example = _overlap(train, test)
    duplicates = len(train) - len({(_prompt(row), plain(row.completion)) for row in train})
    warnings = [
        *size_warnings(len(train), duplicates),
        *length_warnings(train, lengths, truncated, cut, max_length),
    ]
    if overlap:
        warnings.append(
            f"{overlap} of {len(test)} test prompts are also training prompts ({example}): the "
            "report would measure memory; take them out of one of the files"
        )
    warnings += _template_warnings((*train, *test), prompter)
    return DataReport(
        train_rows=len(train),
        test_rows=len(test),
        max_length=max_length,
        train_lengths=token_lengths(lengths) if lengths else None,
        test_lengths=token_lengths(tests),
        truncated=truncated,
        truncated_share=truncated / len(train) if train else 0.0,
        completion_cut=len(cut),
        duplicates=duplicates,
        overlap=overlap,
        overlap_example=example,
        warnings=tuple(warnings),
    )


def size_warnings(rows: int, duplicates: int) -> list[str]:
    """Warnings of too few or repeated training rows."""
    warnings = []
    if 0 < rows < FEW_ROWS:
        warnings.append(
            f"only {rows} training rows, fewer than {FEW_ROWS}: expect the adapter to memorize "
            "rather than learn; collect more, or augment them (paraphrase prompts, vary values)"
        )
    if duplicates:
        warnings.append(
            f"{duplicates} of {rows} training rows repeat an earlier row: they count more than "
            "the others; drop the repeats unless that is meant"
        )
    return warnings


def length_warnings(
    train: Sequence[Row],
    lengths: Sequence[int],
    truncated: int,
    cut: Sequence[Row],
    max_length: int,
) -> list[str]:
    """Warnings of rows that are too long; ``cut`` are those that lose their whole completion."""
    warnings = []
    longest = max(range(len(lengths)), key=lengths.__getitem__, default=None)
    if truncated:
        warnings.append(
            f"{truncated} of {len(train)} training rows are longer than data.max_length "
            f"({max_length} tokens) and lose their end; raise it or shorten the rows"
        )
    if cut:
        warnings.append(
            f"{len(cut)} training rows lose their whole completion, so nothing is learned from "
            f"them (first: {cut[0].where}); raise data.max_length or shorten their prompts"
        )
    if longest is not None and lengths[longest] > VERY_LONG * max_length:
        warnings.append(
            f"{train[longest].where} has {lengths[longest]} tokens, more than {VERY_LONG} times "
            "data.max_length; see whether it is one row"
        )
    return warnings


def _template_warnings(rows: Sequence[Row], prompter: Prompter) -> list[str]:
    warnings = []
    if "strftime_now" in (prompter.template_source or ""):
        warnings.append(
            "the chat template writes today's date, so a prompt changes from day to day; "
            "set data.template to a copy with a fixed date"
        )
    stops: list[str] = [prompter.tokenizer.id_to_token(token) or "" for token in prompter.stop_ids]
    ended = [row for row in rows if any(stop and stop in row.completion for stop in stops)]
    if ended:
        warnings.append(
            f"{len(ended)} completions contain an end token and are cut at it (first: "
            f"{ended[0].where}); take it out, edgepeft writes it itself"
        )
    return warnings


def _overlap(train: Sequence[Row], test: Sequence[Row]) -> tuple[int, str | None]:
    """How many test prompts are training prompts too, and one pair of places where."""
    seen = {_prompt(row): row.where for row in reversed(train)}
    shared = [row for row in test if _prompt(row) in seen]
    if not shared:
        return 0, None
    return len(shared), f"{shared[0].where} and {seen[_prompt(shared[0])]}"


def _prompt(row: Row) -> tuple[str, ...]:
    """What two rows share if they ask the same; a text row is its own prompt."""
    if row.messages is None:
        return ("text", plain(row.completion))
    return tuple(f"{turn['role']}: {plain(turn['content'])}" for turn in row.prompt_messages)


def plain(text: str) -> str:
    """Text in the form in which two are compared: without case and spacing."""
    return " ".join(text.casefold().split())


def token_lengths(lengths: Sequence[int]) -> Lengths:
    """The histogram of token counts, of which there must be one."""
    longest = max(lengths)
    width = max(1, -(-longest // BUCKETS))
    counts = [0] * BUCKETS
    for length in lengths:
        counts[max(0, length - 1) // width] += 1
    edges = tuple(width * i for i in range(BUCKETS + 1))
    return Lengths(edges, tuple(counts), sorted(lengths)[len(lengths) // 2], longest)
