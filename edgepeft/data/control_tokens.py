"""Text that looks like a control token stays text; only what a template writes itself is one.

A tokenizer finds control tokens anywhere in a text. So a look-alike in a message is marked before the template renders
it, which shows where it ends up, and a text with look-alikes is encoded by a second tokenizer that knows the control
tokens under names that nobody can guess: there the template's own are found, and everything else is ordinary text.
A text without look-alikes goes through the tokenizer as it is.
"""

from __future__ import annotations

import bisect
import json
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

from edgepeft.errors import InputError

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
        return [self.text[start:end] for start, end in zip(places, places[1:], strict=False)]


class ControlTokens:
    """The control tokens of one tokenizer.

    They are its special tokens and the added ones that ``template`` writes (``<think>``, ``<tool_call>``). A model's
    answers may hold the latter, for decoding shows them: there they are tokens. ``special_text`` names further ones.
    A token of a single character, and one of white space, is never told from text.
    """

    def __init__(self, tokenizer: Tokenizer, written: str, further: Sequence[str] = ()) -> None:
        """``written`` is what the template holds of literal text; ``further`` are tokens to count as special."""
        added = tokenizer.get_added_tokens_decoder().values()
        told = [token for token in added if len(token.content) > 1 and not token.content.isspace()]
        special = {token.content for token in told if token.special or token.content in further}
        markers = {token.content for token in told if token.content in written}
        self._tokenizer = tokenizer
        self._said = _LookAlikes(special)
        self._asked = _LookAlikes(special | markers)
        self._names: dict[str, str] = {}
        # Hexadecimal digits survive whatever a template does to a text: trimming, escaping, JSON, letter case.
        self._mark = f"q{secrets.token_hex(12)}q"
        self._marks = re.compile(self._mark, re.IGNORECASE)

    def look_alikes(self, text: str, role: str = "user") -> list[str]:
        """The control tokens that stand in a text of ``role`` as they are written."""
        return list(dict.fromkeys(self._of(role).within(text)))

    def breaks(self, text: str, role: str = "user") -> tuple[int, ...]:
        """Where a text of ``role`` must be broken so that no control token is found in it or over its ends."""
        return self._of(role).breaks(text)

    def marked(self, value: Any, role: str) -> Any:
        """``value``, a message or a part of one, with a mark at every break of its texts."""
        return self._changed(value, role, self._mark)

    def neutral(self, value: Any, role: str) -> Any:
        """``value`` with a letter in every look-alike, which makes another text of it."""
        return self._changed(value, role, "x")

    def unmarked(self, text: str) -> Rendered:
        """A rendering of marked messages without the marks, which become breaks."""
        parts = self._marks.split(text)
        breaks, place = set(), 0
        for part in parts[:-1]:
            place += len(part)
            breaks.add(place)
        return Rendered("".join(parts), tuple(sorted(breaks)))

    def found(self, rendered: Rendered) -> list[str]:
        """The control tokens of a text, in order, none of them across a break."""
        return [match for part in rendered.parts for match in self._asked.within(part)]

    def encode(self, rendered: Rendered, *, whole: bool = False) -> tuple[list[int], list[Span]]:
        """Ids of a text and their places in it; with ``whole``, with what the tokenizer puts around a text.

        Raises InputError where the tokenizer makes a control token of ordinary text.
        """
        encoding = self._tokenizer.encode(rendered.text, add_special_tokens=whole)
        if not rendered.breaks or self._ids_of(encoding) == self._wanted(rendered):
            return list(encoding.ids), list(encoding.offsets)
        text, places = self._renamed(rendered)
        encoding = self._apart.encode(text, add_special_tokens=whole)
        if self._ids_of(encoding) != self._wanted(rendered):
            raise InputError(
                f"this tokenizer has no way to write {self.look_alikes(rendered.text)[:1]} as text; take it out, or "
                "set data.control_tokens to tokens"
            )
        return list(encoding.ids), [(places.back(start), places.back(end)) for start, end in encoding.offsets]

    def _of(self, role: str) -> _LookAlikes:
        return self._said if role == "assistant" else self._asked

    def _changed(self, value: Any, role: str, mark: str) -> Any:
        if isinstance(value, str):
            rendered = Rendered(value, self.breaks(value, role))
            return mark.join(rendered.parts)
        if isinstance(value, dict):
            # A role is no text of anybody's; it may be a part of the template's markers.
            return {
                key: part if key == "role" else self._changed(part, role, mark)
                for key, part in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._changed(part, role, mark) for part in value]
        return value

    def _wanted(self, rendered: Rendered) -> list[int]:
        return [
            token
            for text in self.found(rendered)
            if (token := self._tokenizer.token_to_id(text)) in self._counted
        ]

    def _ids_of(self, encoding: Any) -> list[int]:
        """The control tokens among the ids, but for those that the tokenizer puts around a text."""
        around = encoding.special_tokens_mask
        return [
            token
            for token, put in zip(encoding.ids, around, strict=True)
            if token in self._counted and not put
        ]

    @cached_property
    def _counted(self) -> frozenset[int]:
        """Ids of the control tokens; that of unknown characters may come of any text."""
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        ids = {self._tokenizer.token_to_id(text) for text in self._asked.texts if text != unknown}
        return frozenset(token for token in ids if token is not None)

    def _renamed(self, rendered: Rendered) -> tuple[str, _Places]:
        """The text with its control tokens under their other names, and where everything came from."""
        names = self._apart_names
        places, pieces = _Places(), []
        for part in rendered.parts:
            last = 0
            for match in self._asked.pattern.finditer(part):
                for piece, shown in (
                    (part[last : match.start()],) * 2,
                    (match.group(), names[match.group()]),
                ):
                    places.add(len(piece), len(shown))
                    pieces.append(shown)
                last = match.end()
            places.add(len(part) - last, len(part) - last)
            pieces.append(part[last:])
        return "".join(pieces), places

    @cached_property
    def _apart_names(self) -> dict[str, str]:
        return {text: f"{self._mark}{n:06d}z" for n, text in enumerate(sorted(self._asked.texts))}

    @cached_property
    def _apart(self) -> Tokenizer:
        """The tokenizer with its control tokens under other names, and the same ids."""
        names = self._apart_names
        raw = json.loads(self._tokenizer.to_str())
        for token in raw["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        model = raw["model"]
        if isinstance(model.get("vocab"), dict):
            model["vocab"] = {names.get(text, text): token for text, token in model["vocab"].items()}
        elif isinstance(model.get("vocab"), list):
            model["vocab"] = [[names.get(text, text), *rest] for text, *rest in model["vocab"]]
        if isinstance(model.get("unk_token"), str):
            model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
        if "merges" in model:
            model["merges"] = [merge for merge in model["merges"] if not _makes(merge, names)]
        renamed = Tokenizer.from_str(json.dumps(raw))
        old, new = (one.get_added_tokens_decoder() for one in (self._tokenizer, renamed))
        if {n: names.get(t.content, t.content) for n, t in old.items()} != {n: t.content for n, t in new.items()}:
            raise InputError(
                "this tokenizer's control tokens can't be told from text; set data.control_tokens to tokens"
            )
        return renamed


def _makes(merge: Any, names: dict[str, str]) -> bool:
    """Whether a BPE merge makes a control token, or goes on from one."""
    left, right = merge if isinstance(merge, list) else merge.split(" ", 1)
    return any(text in names for text in (left, right, left + right))


class _LookAlikes:
    """Finding some tokens in texts as tokenizers do: the leftmost, and of those the longest."""

    def __init__(self, texts: set[str]) -> None:
        self.texts = texts
        either = "|".join(map(re.escape, sorted(texts, key=lambda text: (-len(text), text))))
        self.pattern = re.compile(either or "(?!)")
        self._anywhere = re.compile(f"(?={either})" if either else "(?!)")
        self._longest = max(map(len, texts), default=0)
        self._beginnings = {text[:n] for text in texts for n in range(1, len(text))}
        self._ends = {text[n:] for text in texts for n in range(1, len(text))}

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
            return tuple(sorted(places))
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


class _Places:
    """Places of a changed text in the text that it was made from."""

    def __init__(self) -> None:
        self._new, self._old = [0], [0]
        self._same: list[bool] = []

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
