"""What a scalar stands for in a recipe, and how much of a text is read at all; for YAML and JSON alike."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from edgepeft.utils.terminal_text import shortened

TEXT_BYTES = 1 << 20
"""Bytes of a recipe; one with a hundred customers takes some ten thousand."""
DEPTH = 32
"""How deeply a value may be nested; a recipe of every option takes six levels."""
VALUES = 20_000
"""Values of all depths, those that an alias or a merge repeats counted again, and a long text as several."""
MOST = 10**15
"""No number of a recipe is larger; what is computed from several must not overflow."""
_LARGEST = 2**63 - 1
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {
    word: word.lower() == "true" for word in ["true", "True", "TRUE", "false", "False", "FALSE"]
}
_NUMBERS: dict[re.Pattern[str], Callable[[str], int | float]] = {
    re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)"): lambda text: (
        int(text) if len(text) < 99 else math.inf
    ),
    re.compile(r"[-+]?0[xX][0-9a-fA-F]{1,99}"): lambda text: int(text, 16),
    re.compile(r"[-+]?0o[0-7]{1,99}"): lambda text: int(text, 8),
    re.compile(r"[-+]?0b[01]{1,99}"): lambda text: int(text, 2),
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(_[0-9]+)*\.[0-9]*)([eE][-+]?[0-9]+)?"): float,
    re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+"): float,
    re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"): lambda text: math.inf,
}
"""What a plain scalar must look like to be a number, the first that fits counting; others are text, as 007 is."""


class TextProblem(Exception):
    """What is wrong with a text, and the line (from 1) where that is known.

    ``syntax`` tells that it is no YAML at all, rather than YAML that is refused.
    """

    def __init__(self, problem: str, line: int | None = None, *, syntax: bool = False) -> None:
        super().__init__(problem)
        self.line = line
        self.syntax = syntax


def plain_value(text: str) -> Any:
    """What a scalar without quotes stands for. Raises TextProblem for numbers that are refused."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    for pattern, read in _NUMBERS.items():
        if pattern.fullmatch(text):
            return _finite(read(text), text)
    return text


def _finite(value: int | float, text: str) -> int | float:
    if isinstance(value, int) and abs(value) > _LARGEST:
        value = math.inf
    if not math.isfinite(value):
        raise TextProblem(f"{shortened(text, 24)}: a finite number of 64 bits is expected")
    return value


def checked_text(text: str) -> str:
    """A string as it is, pairs of half characters joined. Raises TextProblem."""
    if "\0" in text:
        raise TextProblem("holds the character NUL, which no text here can")
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise TextProblem("holds half of a character, which is no text") from None
