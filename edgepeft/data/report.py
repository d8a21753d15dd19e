"""What can be said about any rows, once their tokens are counted: lengths, repeats, rows in both splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from edgepeft.data.control_checks import LookAlikeRows
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
    """What can be said about both splits. Shares are of the training rows, between 0 and 1.

    ``truncated`` rows are longer than ``max_length``; of those, ``completion_cut`` keep no token
    of their completion. ``duplicates`` counts training rows that repeat an earlier one;
    ``overlap`` the test rows whose prompt is also a training prompt, ``overlap_example`` one pair.
    ``control_token_rows`` counts the rows of both splits with text that looks like a control token.
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
    control_token_rows: int
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        return dataclasses.asdict(self)


def need_test_rows(test: Sequence[Row]) -> None:
    """Raise InputError without test rows."""
    if not test:
        raise InputError("data.test: no test rows; the gates need rows that were not trained on")


def report(
    train: Sequence[Row],
    test: Sequence[Row],
    *,
    lengths: Sequence[int],
    test_lengths: Sequence[int],
    cut: Sequence[Row],
    max_length: int,
    asked: Callable[[Row], Hashable],
    content: Callable[[Row], Hashable],
    noun: str,
    look_alikes: LookAlikeRows,
    further: Sequence[str],
    cuts: bool = True,
) -> DataReport:
    """What there is to say of both splits, whose rows have ``lengths`` and ``test_lengths`` tokens.

    ``cut`` are the training rows that lose their whole completion. Two rows with the same ``asked`` ask the same
    (``noun`` says what that is), two with the same ``content`` are the same. ``look_alikes`` are those of control
    tokens; ``further`` warnings come last. Without ``cuts`` long rows are learned in pieces, to their end.
    """
    truncated = sum(length > max_length for length in lengths) if cuts else 0
    overlap, example = _overlap(train, test, asked)
    duplicates = len(train) - len({content(row) for row in train})
    warnings = [
        *_size_warnings(len(train), duplicates),
        *_length_warnings(train, lengths, truncated, cut, max_length),
    ]
    if overlap:
        warnings.append(
            f"{overlap} of {len(test)} test {noun} are also training {noun} ({example}): the "
            "report would measure memory; take them out of one of the files"
        )
    return DataReport(
        train_rows=len(train),
        test_rows=len(test),
        max_length=max_length,
        train_lengths=token_lengths(lengths) if lengths else None,
        test_lengths=token_lengths(test_lengths),
        truncated=truncated,
        truncated_share=truncated / len(train) if train else 0.0,
        completion_cut=len(cut),
        duplicates=duplicates,
        overlap=overlap,
        overlap_example=example,
        control_token_rows=look_alikes.rows,
        warnings=(*warnings, *look_alikes.warnings, *further),
    )


def _size_warnings(rows: int, duplicates: int) -> list[str]:
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


def _length_warnings(
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


def _overlap(
    train: Sequence[Row], test: Sequence[Row], asked: Callable[[Row], Hashable]
) -> tuple[int, str | None]:
    """How many test rows ask what training rows ask too, and one pair of places where."""
    seen = {asked(row): row.where for row in reversed(train)}
    shared = [row for row in test if asked(row) in seen]
    if not shared:
        return 0, None
    return len(shared), f"{shared[0].where} and {seen[asked(shared[0])]}"


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
