"""The words of a JSON Schema, and what each holds: where a schema lies within another.

Names are those of JSON Schema 2020-12 (https://json-schema.org/draft/2020-12) and of draft 7 before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_MAPS = frozenset(
    ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
)
"""Hold a schema for each key."""
_LISTS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
"""Hold a list of schemas."""
_SCHEMAS = frozenset(
    (
        *("items", "additionalItems", "unevaluatedItems", "contains"),
        *("additionalProperties", "unevaluatedProperties", "propertyNames"),
        *("not", "if", "then", "else", "contentSchema"),
    )
)
"""Hold a schema; ``items`` a list of them in draft 7."""
_VALUES = frozenset(
    (
        *("type", "const", "enum", "format", "pattern", "required", "dependentRequired"),
        *("minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minContains"),
        *("maxContains", "minProperties", "maxProperties"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("$ref", "$dynamicRef", "$recursiveRef", "contentEncoding", "contentMediaType"),
    )
)
_REMARKS = frozenset(
    (
        *("$schema", "$id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$vocabulary"),
        *("$comment", "title", "description", "default", "examples", "deprecated"),
        *("readOnly", "writeOnly"),
    )
)
"""Bound nothing."""
KEYWORDS = _MAPS | _LISTS | _SCHEMAS | _VALUES | _REMARKS
"""All there are; keys that begin with ``x-`` are left to whoever wrote them."""


def inside(schema: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """(place, schema) of a schema and of every one within it; a place is as ``properties.room.items``."""
    pending = [(place, schema)]
    while pending:
        at, here = pending.pop()
        yield at, here
        if isinstance(here, dict):
            pending += [(_place(at, name), one) for name, one in _parts(here)]


_MOST_OF_A_PLACE = 200


def _place(at: str, name: str) -> str:
    """Where a part lies, cut: a schema may have thousands of parts under a name of any length."""
    return f"{at}.{name}".lstrip(".")[:_MOST_OF_A_PLACE]


def _parts(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for word, value in schema.items():
        if word in _MAPS and isinstance(value, dict):
            yield from ((f"{word}.{key}", one) for key, one in value.items())
        elif isinstance(value, list) and (word in _LISTS or word == "items"):
            yield from ((f"{word}.{at}", one) for at, one in enumerate(value))
        elif word in _SCHEMAS:
            yield word, value
