"""What a tokenizer's file may ask for: patterns that end, and text that does not grow without bound.

tokenizers reads the vocabulary itself. What is looked at here are the steps that it puts a text through, which
are small programs. A pattern with a repetition inside of a repetition is refused, for it may try every way to
divide a text. Others are bounded by the library, whose engine gives up on a match after ten million tries.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer

from edgepeft.errors import InputError

MAX_STEPS = 64
"""Steps of one kind; tokenizers in use have up to ten."""
MAX_GROWTH = 256
"""How many times as long a text may become."""
_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
_MANY = 8
"""Repetitions of a group from which on its inside counts as repeated without bound."""


def check_steps(tokenizer: Tokenizer, name: str) -> None:
    """Raise InputError, naming the file ``name``, for steps that may take for ever or make a text huge."""
    for part in _PARTS:
        component = getattr(tokenizer, part)
        if component is None:
            continue
        steps = list(_steps(json.loads(component.__getstate__())))
        if len(steps) > MAX_STEPS:
            raise InputError(
                f"{name}: its {part} has more than {MAX_STEPS} steps; fetch the model again"
            )
        growth = 1.0
        for step in steps:
            growth *= _growth(step)
            pattern = _pattern(step)
            if pattern is not None and repeats_repetition(pattern):
                raise InputError(
                    f"{name}: its {part} has a pattern that may never end ({pattern[:60]!r} repeats a "
                    "repetition); "
                    "fetch the model again"
                )
        if growth > MAX_GROWTH:
            raise InputError(
                f"{name}: its {part} makes a text more than {MAX_GROWTH} times as long; fetch the model again"
            )


def _steps(component: Any) -> Iterator[dict[str, Any]]:
    """The steps of a component, those within sequences too."""
    waiting = [component]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, dict) and "type" in item:
            inner = [
                item[key]
                for key in ("normalizers", "pretokenizers", "processors", "decoders")
                if key in item
            ]
            if inner:
                waiting.extend(inner)
            else:
                yield item


def _pattern(step: dict[str, Any]) -> str | None:
    given = step.get("pattern")
    regex = given.get("Regex") if isinstance(given, dict) else None
    return regex if isinstance(regex, str) else None


def _growth(step: dict[str, Any]) -> float:
    """How many times as long a step makes a text, at most."""
    if step["type"] == "ByteLevel":
        return 4.0
    if step["type"] == "Prepend":
        return 1.0 + len(step.get("prepend", ""))
    if step["type"] != "Replace":
        return 1.0
    given = step.get("pattern")
    literal = given.get("String") if isinstance(given, dict) else None
    least = max(1, len(literal)) if isinstance(literal, str) else 1
    # An empty pattern is found between any two characters.
    extra = 1 if not literal else 0
    return max(1.0, extra + len(step.get("content", "")) / least)


def repeats_repetition(pattern: str) -> bool:
    """Whether a regular expression repeats a group without bound in which something is repeated without bound.

    Repetitions that give nothing back (``a++``, ``(?>a+)``) don't count. Read with the syntax of Oniguruma.
    """
    repeated = [False]  # for each open group, whether something in it is
    atomic: list[bool] = []
    place, last_group = 0, False
    while place < len(pattern):
        char = pattern[place]
        if char == "\\":
            place, last_group = place + 2, False
        elif char == "[":
            place, last_group = _behind_class(pattern, place), False
        elif char == "(":
            repeated.append(False)
            atomic.append(pattern.startswith("(?>", place))
            place, last_group = place + 1, False
        elif char == ")" and len(repeated) > 1:
            last_group = repeated.pop() and not atomic.pop()
            repeated[-1] |= last_group
            place += 1
        else:
            unbounded, behind = _quantifier(pattern, place)
            if behind == place:
                place, last_group = place + 1, False
                continue
            possessive = pattern[behind : behind + 1] == "+" and char != "{"
            if unbounded and last_group and not possessive:
                return True
            repeated[-1] |= unbounded and not possessive
            place, last_group = (
                behind + (pattern[behind : behind + 1] in ("+", "?") and char != "{"),
                False,
            )
    return False


def _quantifier(pattern: str, place: int) -> tuple[bool, int]:
    """Whether a quantifier that begins at ``place`` has no bound, and where it ends; ``place`` where none is."""
    if pattern[place] in "*+":
        return True, place + 1
    if pattern[place] == "?":
        return False, place + 1
    if pattern[place] != "{":
        return False, place
    end = pattern.find("}", place)
    bounds = pattern[place + 1 : end].split(",") if end > 0 else []
    if not bounds or len(bounds) > 2 or not all(part.isdigit() or not part for part in bounds):
        return False, place
    most = bounds[-1]
    return not most or int(most[:9]) >= _MANY, end + 1


def _behind_class(pattern: str, place: int) -> int:
    """Where a class of characters ends that begins at ``place``; classes may hold classes."""
    depth, here = 0, place
    while here < len(pattern):
        if pattern[here] == "\\":
            here += 2
            continue
        if pattern[here] == "[":
            depth += 1
            here += 1 + pattern.startswith("^", here + 1)
            # A bracket right behind the opening one is a character.
            here += pattern.startswith("]", here)
            continue
        if pattern[here] == "]":
            depth -= 1
            if not depth:
                return here + 1
        here += 1
    return here
