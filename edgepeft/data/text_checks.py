"""What can be said about an encoder's data before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edgepeft.data.control_checks import LookAlikeRows
from edgepeft.data.report import DataReport, need_test_rows, plain, report
from edgepeft.data.rows import Row
from edgepeft.data.texts import TextEncoder
from edgepeft.errors import InputError


def check_texts(
    train: Sequence[Row], test: Sequence[Row], encoder: TextEncoder, *, max_length: int
) -> DataReport:
    """Measure both splits in tokens and warn of what would spoil training or the report.

    ``encoder`` must not cut texts off itself; ``max_length`` is in tokens. Raises InputError without test rows
    and for an empty text.
    """
    need_test_rows(test)
    for row in (*train, *test):
        if not (row.text or "").strip():
            raise InputError(f"{row.where}: the text is empty; fill it in or drop the row")
    lengths = [_tokens(row, encoder) for row in train]
    tests = [_tokens(row, encoder) for row in test]
    further = _contradictions(train)
    cut = sum(length > max_length for length in tests)
    if cut:
        further.append(
            f"{cut} of {len(test)} test texts are longer than {max_length} tokens; what is beyond is not read"
        )
    return report(
        train,
        test,
        lengths=lengths,
        test_lengths=tests,
        cut=(),
        max_length=max_length,
        asked=lambda row: "\0".join((plain(row.text or ""), plain(row.pair or ""))),
        content=_content,
        noun="texts",
        look_alikes=LookAlikeRows.of((*train, *test), encoder),
        further=further,
    )


def _tokens(row: Row, encoder: TextEncoder) -> int:
    """Tokens of a row, two texts that are read together as one; else those of its longest text."""
    if row.pair is not None:
        return len(encoder.encode(row.text or "", row.pair).ids)
    return max(len(encoder.encode(text).ids) for text in (row.text or "", *row.further_texts))


def _content(row: Row) -> tuple[object, ...]:
    return (*_texts(row), row.label, row.labels, row.score, row.tags)


def _texts(row: Row) -> tuple[str, ...]:
    return tuple(plain(text) for text in (row.text or "", *row.further_texts))


def _contradictions(train: Sequence[Row]) -> list[str]:
    """Texts, alone or together, that two rows give different labels or scores."""
    labels: dict[tuple[str, ...], set[object]] = {}
    for row in train:
        several = None if row.labels is None else frozenset(row.labels)
        said = [one for one in (row.label, several, row.score) if one is not None]
        if said:
            labels.setdefault(_texts(row), set()).update(said)
    counts = Counter(len(found) > 1 for found in labels.values())
    if not counts[True]:
        return []
    what = "score" if train[0].score is not None else "label"
    return [f"{counts[True]} training texts have more than one {what}; nothing can learn both"]
