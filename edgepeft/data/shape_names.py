"""Which shape a file's rows have, told by the columns, and what to say where they have none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgepeft.data.column_names import may_hold_text, told_apart
from edgepeft.errors import InputError

Record = tuple[str, dict[str, Any]]
"""Where a row stands in its file, and its columns."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations"),
    "prompt": ("prompt", "completion"),
    "instruction": ("instruction", "output"),
    "preference": ("prompt", "chosen", "rejected"),
    "score": ("query", "passage", "score"),
    "labels": ("text", "labels"),
    "label": ("text", "label"),
    "tags": ("tokens", "tags"),
    "pairs": ("anchor", "positive"),
    "text": ("text",),
}
"""Shape to its own columns."""
SHAPES = tuple(COLUMNS)

_FITS: dict[str, list[set[str]]] = {
    "messages": [{"messages"}, {"conversations"}],
    "prompt": [{"prompt", "completion"}],
    "instruction": [{"instruction", "output"}],
    "preference": [{"chosen", "rejected"}],
    "score": [{"query", "passage", "score"}, {"query", "passage", "label"}],
    "labels": [{"text", "labels"}],
    "label": [{"text", "label"}],
    "tags": [{"tokens", "tags"}],
    "pairs": [{"anchor", "positive"}],
    "text": [{"text"}],
}
"""Shape to the sets of columns any of which makes it fit; the first shape that fits is taken."""

_OTHER_FORMS: list[tuple[set[str], str]] = [
    (
        {"preferred_output", "non_preferred_output"},
        "rename them to prompt, chosen and rejected, with the messages of input in prompt",
    ),
    ({"completions", "labels"}, "rows that judge every step of an answer can't be learned yet"),
    ({"input_ids"}, "they are token ids already; give the texts, edgepeft makes the tokens itself"),
    (
        {"chosen"},
        "there is no rejected beside chosen; name the answers prompt and completion to learn them as they are",
    ),
]


def find_shape(shape: str, record: Mapping[str, Any], file: str, preferred: set[str]) -> str:
    """The shape a record is read in; "auto" goes by its columns. Raises InputError where none fits."""
    fitting = fitting_shapes(record)
    if shape == "auto":
        wanted = [name for name in fitting if preferred & set(COLUMNS[name])]
        if "preference" in fitting and not {"prompt", "instruction"} & set(fitting):
            # What else it has is the same conversation once more, or the prompt.
            fitting.insert(0, "preference")
        if not fitting:
            raise InputError(
                f"{file}: columns {listed(record)} match no known layout ({_shapes()}); {_mend(record)}"
            )
        return (wanted or fitting)[0]
    if shape not in _FITS:
        raise InputError(f"data.shape: no {shape!r}; use auto, {', '.join(_FITS)}")
    if shape not in fitting:
        raise InputError(
            f"{file}: columns {listed(record)} do not fit data.shape {shape} "
            f"({' + '.join(COLUMNS[shape])}); name the columns in data.columns"
        )
    return shape


def fitting_shapes(record: Mapping[str, Any]) -> list[str]:
    """The shapes that a record's own columns fit, the first of which is taken."""
    return [
        name for name, options in _FITS.items() if any(option <= set(record) for option in options)
    ]


def listed(names: Iterable[str]) -> str:
    """Column names for an error line; a file may have hundreds."""
    shown = [str(name) for name in names]
    more = f" and {len(shown) - 12} more" if len(shown) > 12 else ""
    return ", ".join(shown[:12]) + more if shown else "none"


def _shapes() -> str:
    return "; ".join(" + ".join(names) for names in COLUMNS.values())


def _mend(record: Mapping[str, Any]) -> str:
    """What makes a record fit whose columns are called otherwise, or were not told apart.

    Never a mapping by which an answer would be learned that is marked as the worse one.
    """
    names = list(record)
    if len(names) == 1:
        separator = next((mark for mark in (";", "\t", "|", ",") if mark in names[0]), None)
        if separator is not None:
            return (
                f"its columns are separated by {separator!r}: save it as CSV, with commas between"
            )
    for columns, mend in _OTHER_FORMS:
        if columns <= set(names):
            return mend
    found = told_apart(names, [name for name in names if may_hold_text(name)])
    if not names:
        found = {"prompt": "question", "completion": "answer"}
    if "chosen" in found or {"prompt", "completion"} <= set(found):
        return _example(found)
    return (
        "it needs a column for what is asked and one for the answer; say which they are in data.columns, as "
        "{prompt: …, completion: …}"
    )


def _example(columns: Mapping[str, str]) -> str:
    named = ", ".join(f"{ours}: {theirs}" for ours, theirs in columns.items())
    return f"name the columns, as data.columns: {{{named}}}"
