"""JSON from elsewhere, read so that no two readers can take it differently."""

from __future__ import annotations

import json
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
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:80]!r} is given twice")
            seen.add(key)
    return found


def _refuse(name: str) -> float:
    raise ValueError(f"a number that is not finite, {name}")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"a number that is not finite, {digits[:40]}")
    return value
