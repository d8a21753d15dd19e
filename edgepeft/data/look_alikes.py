"""Where a text holds what a tokenizer would take for a token, and how places move when it is changed."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from edgepeft.errors import InputError

_WORD = re.compile(r"[A-Za-z0-9_.-]+")
Span = tuple[int, int]
"""Where a piece of a text begins and ends, in characters."""


@dataclass(frozen=True)
class Rendered:
    """A text to encode. No control token may be found across any of its ``breaks``, which are places in it."""

    text: str
    breaks: tuple[int, ...] = ()

    def after(self, length: int) -> Rendered:
        """The text from its character ``length`` on."""
        return Rendered(
            self.text[length:], tuple(place - length for place in self.breaks if place > length)
        )

    @property
    def parts(self) -> list[str]:
        """The text, cut at every break."""
        places = [0, *self.breaks, len(self.text)]
        return [self.text[start:end] for start, end in itertools.pairwise(places)]


class LookAlikes:
    """Finding some tokens in texts as tokenizers do: the leftmost, and of those the longest."""

    def __init__(self, texts: set[str]) -> None:
        """Raises InputError for texts that no tokenizer has: thousands that each begin with the one before."""
        self.texts = texts
        try:
            either = _either(texts) if texts else "(?!)"
            self.pattern = re.compile(either)
        except (RecursionError, OverflowError, re.error):
            raise InputError(
                "the tokenizer's special tokens are nested too deeply in each other; fetch the model again"
            ) from None
        self._anywhere = re.compile(f"(?={either})")
        self._longest = max(map(len, texts), default=0)

    @cached_property
    def _beginnings(self) -> set[str]:
        return {text[:n] for text in self.texts for n in range(1, len(text))}

    @cached_property
    def _ends(self) -> set[str]:
        return {text[n:] for text in self.texts for n in range(1, len(text))}

    def within(self, text: str) -> Iterator[str]:
        """The tokens in a text."""
        return (match.group() for match in self.pattern.finditer(text))

    def breaks(self, text: str) -> tuple[int, ...]:
        """A place inside of each token of a text, and inside of each that may begin or end outside of it."""
        places = set()
        if self.pattern.search(text):
            places = {match.start() + 1 for match in self._anywhere.finditer(text)}
        # What a template trims away lies at the ends, so ends are those of what it leaves.
        core = text.strip()
        if not core:
            return ()
        start = text.index(core[0])
        stop = start + len(core)
        for n in range(1, min(self._longest, len(core) + 1)):
            if core[-n:] in self._beginnings:
                places.add(stop - n + 1)
            if core[:n] in self._ends:
                places.add(start + n - 1)
        if len(core) < self._longest and any(core in text[1:-1] for text in self.texts):
            places.add(start)
        return tuple(sorted(places))


def _either(texts: Iterable[str]) -> str:
    """A pattern for any of ``texts``, the longest that fits; what several begin with is looked at once.

    A tokenizer may have thousands of control tokens, and a text a million of places where one might begin.
    """
    tree: dict[str, Any] = {}
    for text in texts:
        node = tree
        for character in text:
            node = node.setdefault(character, {})
        node[""] = {}

    def pattern(node: dict[str, Any]) -> str:
        # A text without branches goes into one piece.
        begun = ""
        while len(node) == 1 and "" not in node:
            ((character, node),) = node.items()
            begun += re.escape(character)
        rest = [re.escape(one) + pattern(below) for one, below in sorted(node.items()) if one]
        if not rest:
            return begun
        return f"{begun}(?:{'|'.join(rest)}){'?' if '' in node else ''}"

    return pattern(tree)


class Places:
    """Places of a changed text in the text that it was made from."""

    def __init__(self) -> None:
        self._new, self._old = [0], [0]

    def add(self, old: int, new: int) -> None:
        """A piece of ``old`` characters became one of ``new``."""
        self._old.append(self._old[-1] + old)
        self._new.append(self._new[-1] + new)

    def back(self, place: int) -> int:
        """Where a place of the changed text lay; one inside of what was changed lies at its end."""
        piece = bisect.bisect_right(self._new, place) - 1
        if piece == len(self._old) - 1:
            return self._old[-1]
        return min(self._old[piece] + place - self._new[piece], self._old[piece + 1])


def is_word(key: str, value: Any) -> bool:
    """Whether what stands under a key are plain words of the form, which templates compare: roles, types, the
    names of functions and of what they require.
    """
    if key == "required" and isinstance(value, list):
        return all(isinstance(one, str) and _WORD.fullmatch(one) for one in value)
    named = key in ("role", "type", "name")
    return named and isinstance(value, str) and _WORD.fullmatch(value) is not None


def texts_in(value: Any) -> Iterator[tuple[str, bool]]:
    """Each text in a value, and whether it is a key."""
    if isinstance(value, str):
        yield value, False
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield str(key), True
            yield from texts_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts_in(part)
