"""From a record to a `Row` of a text that nobody answers: with labels, tags, another text, or a score."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from edgepeft.data.fields import says_nothing
from edgepeft.data.messages import kind_of, read_string
from edgepeft.data.plain_text import refuse_halves
from edgepeft.data.rows import Row
from edgepeft.errors import InputError


def string_column(record: Mapping[str, Any], column: str, where: str) -> str:
    """The text in a column that every row needs. Raises InputError."""
    value = record.get(column)
    if value is None:
        raise InputError(f"{where}: no {column}; every row needs one")
    return read_string(value, f"{where}: {column}")


def _from_text(record: Mapping[str, Any], where: str) -> Row:
    return Row(None, string_column(record, "text", where), where)


def _from_label(record: Mapping[str, Any], where: str) -> Row:
    text = string_column(record, "text", where)
    label = record.get("label")
    if isinstance(label, (bool, int)):
        label = str(label).lower()
    # A text without a label is still a text: a model that generates learns it as it is, others refuse the row.
    name = label.strip() if isinstance(label, str) else ""
    return Row(None, text, where, label=name or None, pair=_optional(record, "text_pair", where))


def _from_labels(record: Mapping[str, Any], where: str) -> Row:
    """Several labels at once; none of them is an empty list."""
    text = string_column(record, "text", where)
    value = record.get("labels")
    if isinstance(value, str):
        value = _listed(value)
    if not isinstance(value, list):
        raise InputError(
            f"{where}: labels should be a list of a text's labels ([] for none), is {kind_of(value)}"
        )
    names = []
    for one in value:
        name = str(one).lower() if isinstance(one, (bool, int)) else one
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"{where}: labels holds {one!r}, which is no name of a label")
        refuse_halves(name, f"{where}: labels")
        names.append(name.strip())
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"{where}: labels holds {twice!r} twice; list the names of those that apply, once each"
        )
    pair = _optional(record, "text_pair", where)
    return Row(None, text, where, labels=tuple(names), pair=pair)


def _listed(value: str) -> list[Any] | str:
    """A list as CSV has it: in JSON, or with commas between."""
    if not value.strip().startswith("["):
        return [part for part in value.split(",") if part.strip()]
    try:
        found: list[Any] = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return found


def _from_tags(record: Mapping[str, Any], where: str) -> Row:
    words, tags = (_names(record, column, where) for column in ("tokens", "tags"))
    if len(words) != len(tags):
        raise InputError(
            f"{where}: {len(words)} tokens and {len(tags)} tags; every token needs one"
        )
    return Row(None, " ".join(words), where, words=words, tags=tags)


def _from_pair(record: Mapping[str, Any], where: str) -> Row:
    anchor, positive = _both(record, "anchor", "positive", where)
    return Row(
        None, anchor, where, positive=positive, negative=_optional(record, "negative", where)
    )


def _from_score(record: Mapping[str, Any], where: str) -> Row:
    """A query, a passage, and how well it answers: a score, or a label that is a number."""
    query, passage = _both(record, "query", "passage", where)
    column = "score" if "score" in record else "label"
    return Row(None, query, where, pair=passage, score=_number(record.get(column), column, where))


def _both(record: Mapping[str, Any], first: str, second: str, where: str) -> tuple[str, str]:
    """The texts in two columns. Raises InputError where one is without a letter."""
    one, other = (string_column(record, column, where) for column in (first, second))
    if not one.strip() or not other.strip():
        raise InputError(f"{where}: {first} and {second} must both hold text; fill them in")
    return one, other


def _number(value: Any, column: str, where: str) -> float:
    """A finite number, which CSV has as a text. Raises InputError."""
    try:
        number = float(value) if isinstance(value, (bool, int, float, str)) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    # Past what float32 holds a loss is no number.
    if not abs(number) < 1e30:
        said = "nothing" if says_nothing(value) else repr(value)[:60]
        raise InputError(f"{where}: {column} should be a number, is {said}")
    return number


def _optional(record: Mapping[str, Any], column: str, where: str) -> str | None:
    """The text in a column that rows may have. Raises InputError for one without a letter."""
    if record.get(column) is None:
        return None
    text = read_string(record[column], f"{where}: {column}")
    if not text.strip():
        raise InputError(f"{where}: {column} is empty; fill it in, or drop the column")
    return text


def _names(record: Mapping[str, Any], column: str, where: str) -> tuple[str, ...]:
    """A list of words, or a text (as CSV has it) of words with spaces between."""
    value = record.get(column)
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, list) or not value:
        raise InputError(f"{where}: {column} should be a list of words, is {kind_of(value)}")
    for word in value:
        if not isinstance(word, str) or len(word.split()) != 1:
            raise InputError(
                f"{where}: {column} holds {word!r}, which is not one word without spaces"
            )
        refuse_halves(word, f"{where}: {column}")
    return tuple(word.strip() for word in value)


TEXT_ROWS: dict[str, Callable[[Mapping[str, Any], str], Row]] = {
    "score": _from_score,
    "labels": _from_labels,
    "label": _from_label,
    "tags": _from_tags,
    "pairs": _from_pair,
    "text": _from_text,
}
"""Shape to what reads a record of it."""
