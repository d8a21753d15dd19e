"""A JSON Schema proposed from answers that are there: their keys, types, closed sets, and how long values are.

What bounds a value is wider than what was seen, but for closed sets: strings of which few kinds come again and
again. Whoever uses the schema has seen it first.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from edgepeft.errors import InputError, one_line
from edgepeft.utils import strict_json

_MOST_CHOICES = 48
_REPEATS = 4
"""How often each text of a closed set has come, on average."""
_STYLES = ((", ", ": "), (",", ":"))
"""Separators that answers are written with: those of Python's json, and compact ones."""

Schema = dict[str, Any]


def infer_schema(texts: Sequence[tuple[str, str]]) -> tuple[Schema, list[str]]:
    """A schema that all ``texts``, pairs of place and answer, fit, and what is to be said of it.

    Raises InputError for no texts, and for one that is not JSON, by its place.
    """
    if not texts:
        raise InputError("--infer-schema: there are no answers to look at")
    values = []
    for where, text in texts:
        try:
            values.append(strict_json.loads(text))
        except ValueError as error:
            raise InputError(f"{where}: the answer is not JSON ({one_line(error)[:100]})") from None
    notes: list[str] = []
    schema = _schema_of(values, "", notes)
    style = next((one for one in _STYLES if _all_written(texts, values, one)), None)
    if style is not None and any(isinstance(value, dict | list) for value in values):
        item, key = style
        # Written alike everywhere, what stands between values need not be chosen.
        spaces = {"whitespace_flexible": False, "item_separator": item, "key_separator": key}
        schema["x-guidance"] = spaces
    return schema, notes


def _all_written(
    texts: Sequence[tuple[str, str]], values: Sequence[Any], style: tuple[str, str]
) -> bool:
    return all(
        json.dumps(value, separators=style, ensure_ascii=False) == text.strip()
        for (_, text), value in zip(texts, values, strict=True)
    )


def _schema_of(values: Sequence[Any], place: str, notes: list[str]) -> Schema:
    counts = Counter(map(_kind, values))
    if "number" in counts and "integer" in counts:
        # An integer is a number, too.
        counts["number"] += counts.pop("integer")
    kinds: dict[str, list[Any]] = {kind: [] for kind, _ in counts.most_common()}
    for value in values:
        kind = _kind(value)
        kinds[kind if kind in kinds else "number"].append(value)
    found = [_of_kind(kind, of_kind, place, notes) for kind, of_kind in kinds.items()]
    if len(found) == 1:
        return found[0]
    return {"anyOf": found}


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = {int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names[type(value)]


def _of_kind(kind: str, values: Sequence[Any], place: str, notes: list[str]) -> Schema:
    if kind == "string":
        return _of_strings(values)
    if kind in ("integer", "number"):
        return _of_numbers(kind, values)
    if kind == "array":
        items = [item for value in values for item in value]
        most = max(4, 2 * max(map(len, values)))
        inner = {"items": _schema_of(items, f"{place}[]", notes)} if items else {}
        return {"type": "array", **inner, "maxItems": most if items else 0}
    if kind == "object":
        return _of_objects(values, place, notes)
    return {"type": kind}


def _of_strings(values: Sequence[str]) -> Schema:
    texts = Counter(values)
    if len(texts) <= _MOST_CHOICES and len(values) >= _REPEATS * len(texts):
        return {"enum": sorted(texts)}
    return {"type": "string", "maxLength": max(16, 4 * max(map(len, texts)))}


def _of_numbers(kind: str, values: Sequence[int | float]) -> Schema:
    """Bounded by one digit more than was seen: a model that is lost writes digits without end."""
    most = 10 ** (len(str(int(max(map(abs, values))))) + 1) - 1
    return {"type": kind, "minimum": 0 if min(values) >= 0 else -most, "maximum": most}


def _of_objects(values: Sequence[dict[str, Any]], place: str, notes: list[str]) -> Schema:
    order = _order(values)
    at = {key: index for index, key in enumerate(order)}
    moved = sum(1 for value in values if list(value) != sorted(value, key=at.__getitem__))
    if moved:
        notes.append(
            f"{place or 'the answer'}: the keys of {moved} of {len(values)} objects come in another order than "
            "the schema's, which answers within it will have"
        )
    properties = {
        key: _schema_of(
            [value[key] for value in values if key in value],
            f"{place}.{key}".lstrip("."),
            notes,
        )
        for key in order
    }
    return {
        "type": "object",
        "properties": properties,
        "required": [key for key in order if all(key in value for value in values)],
        "additionalProperties": False,
    }


def _order(values: Sequence[dict[str, Any]]) -> list[str]:
    """All keys, each behind those that it followed where it first came."""
    order: list[str] = []
    for value in values:
        for key, before in _with_predecessor(value):
            if key not in order:
                order.insert(0 if before is None else order.index(before) + 1, key)
    return order


def _with_predecessor(value: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    before = None
    for key in value:
        yield key, before
        before = key
