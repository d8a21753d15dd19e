"""JSON from elsewhere, read so that no two readers can take it differently."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any


def loads(text: str) -> Any:
    """The value of a JSON text.

    Raises ValueError, in one line, for what is no JSON, a key that is given twice, a number that is not finite
    or has thousands of digits, half of a surrogate pair, and for values nested without end.
    """
    try:
        value = json.loads(
            text,
            object_pairs_hook=unique,
            parse_constant=_refuse,
            parse_float=_finite,
        )
        if "\\u" in text:
            # Only an escape can have made one: the text itself was decoded.
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a string holds half of a surrogate pair, which is no character") from None
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    return value


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping of a JSON object's pairs, for ``object_pairs_hook``. Raises ValueError for a key given twice."""
    twice = given_twice(pairs)
    if twice is not None:
        raise ValueError(f"the key {twice[:80]!r} is given twice")
    return dict(pairs)


def given_twice(pairs: list[tuple[str, Any]]) -> str | None:
    """The first key of a JSON object that is there again."""
    if len(dict(pairs)) == len(pairs):
        return None
    times = Counter(key for key, _ in pairs)
    return next(key for key in times if times[key] > 1)


def nested_deeper(value: Any, most: int) -> bool:
    """Whether lists and objects lie in each other more than ``most`` deep."""
    level = [value]
    for _ in range(most + 1):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list | tuple)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True


def _refuse(name: str) -> float:
    raise ValueError(f"a number that is not finite, {name}")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"a number that is not finite, {digits[:40]}")
    return value


DECODER = json.JSONDecoder(object_pairs_hook=unique, parse_constant=_refuse, parse_float=_finite)
"""Reads a value out of the middle of a text, as strictly; raises ValueError, RecursionError."""
