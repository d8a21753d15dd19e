"""A JSON Schema looked over before it bounds anything: that it is one, says what was meant, and can be met."""

from __future__ import annotations

import json
from typing import Any

from edgepeft.errors import InputError, nearest
from edgepeft.guidance.keywords import KEYWORDS, inside
from edgepeft.utils.strict_json import nested_deeper

MOST_BYTES = 256 * 1024
"""Bytes of a schema as compact JSON, or of another grammar's text; real ones have a few thousand."""
MOST_DEPTH = 64
_MOST_SHOWN = 100
_TURNS = 200


def checked_schema(schema: Any, where: str) -> str:
    """A schema as compact JSON text, keys in their order.

    Raises InputError, which begins with ``where``, for what is no schema, for a word that JSON Schema does not
    have, for one that is too large, and for one that no finite text fits.
    """
    if not isinstance(schema, dict):
        raise InputError(f"{where}: a JSON Schema is an object, as {{'type': 'object'}}")
    require_shallow(schema, where)
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    require_size(text, where)
    for place, part in inside(schema):
        _check_words(part, place, where)
    if not _finite(schema):
        raise InputError(
            f"{where}: no finite text fits it: what it requires contains itself; let the value be null, "
            "leave it out of required, or allow an empty list"
        )
    return text


def require_size(text: str, where: str) -> None:
    """Raise InputError for a grammar's text that is too long, or holds halves of characters."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InputError(f"{where}: holds half of a character, which no answer has") from None
    if size > MOST_BYTES:
        raise InputError(f"{where}: larger than {MOST_BYTES} bytes; bound less of the answer")


def require_shallow(value: Any, where: str) -> None:
    """Raise InputError for values nested deeper than a schema has any need to be."""
    if nested_deeper(value, 2 * MOST_DEPTH - 1):
        raise InputError(f"{where}: nested too deeply; use $defs and $ref for what repeats")


def _check_words(part: Any, place: str, where: str) -> None:
    """Refuse a word that would be passed over in silence."""
    at = f"{where}: {place[:_MOST_SHOWN]}: " if place else f"{where}: "
    if isinstance(part, bool):
        return
    if not isinstance(part, dict):
        raise InputError(f"{at}a schema is an object or a boolean")
    for word in part:
        if word not in KEYWORDS and not word.startswith("x-"):
            near = nearest(word, KEYWORDS)
            hint = f"did you mean {near}?" if near else "leave it out"
            raise InputError(f"{at}{word[:_MOST_SHOWN]!r} is no keyword of JSON Schema; {hint}")


def _finite(schema: dict[str, Any]) -> bool:
    """Whether some finite text may fit: false only where what is required contains itself without end.

    A schema that can't be met for other reasons is left to whoever compiles it.
    """
    parts = {id(part): part for _, part in inside(schema) if isinstance(part, dict)}
    finite: set[int] = set()

    def fits(part: Any) -> bool:
        # What a reference finds outside of all schemas is not looked into.
        return not isinstance(part, dict) or id(part) in finite or id(part) not in parts

    for _ in range(_TURNS):
        found = {
            key for key, part in parts.items() if key not in finite and _ends(part, schema, fits)
        }
        if not found:
            break
        finite |= found
    return id(schema) in finite


def _ends(part: dict[str, Any], root: dict[str, Any], fits: Any) -> bool:
    """Whether a schema is met by finite text, as far as is known of those it consists of."""
    needed = list(part.get("allOf") or ())
    for word in ("anyOf", "oneOf"):
        choices = part.get(word)
        if isinstance(choices, list) and choices and not any(map(fits, choices)):
            return False
    if isinstance(part.get("$ref"), str):
        needed.append(_referred(part["$ref"], root))
    if _may_only_be(part, "object"):
        properties = part.get("properties")
        if isinstance(properties, dict) and isinstance(part.get("required"), list):
            needed += [
                properties.get(name, True) for name in part["required"] if isinstance(name, str)
            ]
    least = part.get("minItems", 0)
    if _may_only_be(part, "array") and isinstance(least, int) and least > 0:
        first = part.get("prefixItems")
        listed = first if isinstance(first, list) else []
        needed += listed[:least]
        if least > len(listed):
            needed.append(part.get("items", True))
    return all(map(fits, needed))


def _may_only_be(part: dict[str, Any], kind: str) -> bool:
    return part.get("type") in (kind, [kind])


def _referred(reference: str, root: dict[str, Any]) -> Any:
    """What a reference within the schema points to; True where that can't be said here."""
    at: Any = root
    if reference in ("#", ""):
        return at
    if not reference.startswith("#/"):
        return True
    for name in reference[2:].split("/"):
        key = name.replace("~1", "/").replace("~0", "~")
        if isinstance(at, list) and key.isdigit() and int(key) < len(at):
            at = at[int(key)]
        elif isinstance(at, dict) and key in at:
            at = at[key]
        else:
            return True
    return at
