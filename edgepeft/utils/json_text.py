"""JSON within the same limits as YAML, for recipes that programs write."""

from __future__ import annotations

import json
from typing import Any

from edgepeft.utils.scalars import DEPTH, VALUES, TextProblem, checked_text, plain_value
from edgepeft.utils.strict_json import given_twice
from edgepeft.utils.terminal_text import shortened


def read_json(text: str) -> Any:
    """The value of a JSON text. Raises JSONDecodeError for what is none, TextProblem for what is refused."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if (twice := given_twice(pairs)) is not None:
            raise TextProblem(f"{shortened(twice, 40)}: is given twice; keep one")
        return dict(pairs)

    def refuse(word: str) -> float:
        raise TextProblem(f"{word}: a finite number of 64 bits is expected")

    try:
        value = json.loads(
            text,
            object_pairs_hook=once,
            parse_int=plain_value,
            parse_float=plain_value,
            parse_constant=refuse,
        )
    except RecursionError:
        raise TextProblem(f"is nested more than {DEPTH} levels deep") from None
    waiting: list[tuple[Any, int]] = [(value, 0)]
    values = 0
    while waiting:
        one, depth = waiting.pop()
        values += 1
        if depth > DEPTH:
            raise TextProblem(f"is nested more than {DEPTH} levels deep")
        if values > VALUES:
            raise TextProblem(f"holds more than the {VALUES} values that are read")
        if isinstance(one, str):
            checked_text(one)
        elif isinstance(one, dict):
            waiting += [(part, depth + 1) for item in one.items() for part in item]
        elif isinstance(one, list):
            waiting += [(part, depth + 1) for part in one]
    return value
