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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from tokenizers import Tokenizer

from edgepeft.data.tokenizer_files import encode
from edgepeft.errors import InputError

Span = tuple[int, int]
"""Where a piece of a text begins and ends, in characters."""

Policy = Literal["text", "tokens"]
"""What text that looks like a control token is: text, or the token."""


def policy_of(settings: Mapping[str, Any]) -> Policy:
    """What a recipe's data section or a bundle's manifest says of it."""
    return "tokens" if settings.get("control_tokens") == "tokens" else "text"


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


@dataclass(frozen=True)
class Tokens:
    """Ids of a text, and of the same length where each lies in it and 1 where the tokenizer put one around the text.

    ``lost`` counts the text's own tokens that a tokenizer with a longest length cut off.
    """

    ids: list[int]
    places: list[Span]
    around: list[int]
    lost: int


class ControlTokens:
    """The control tokens of one tokenizer, and how texts with their look-alikes are encoded.

    They are its special tokens and the added ones that the template writes (``<think>``, ``<tool_call>``). A model's
    answers may hold the latter, for decoding shows them: in an assistant's turns they are tokens. A token of a single
    character, and one of white space, is never told from text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        written: str = "",
        further: Sequence[str] = (),
        unknown: str | None = None,
        as_text: bool = True,
    ) -> None:
        """``written`` is what the template holds of literal text, ``further`` are tokens to count as special,
        ``unknown`` stands for what a tokenizer does not know. Without ``as_text`` look-alikes are the tokens.
        """
        added = tokenizer.get_added_tokens_decoder().values()
        told = [token for token in added if len(token.content) > 1 and not token.content.isspace()]
        special = {token.content for token in told if token.special or token.content in further}
        markers = {token.content for token in told if token.content in written}
        self.as_text = as_text
        self._tokenizer = tokenizer
        self._said = _LookAlikes(special)
        self._asked = _LookAlikes(special | markers)
        unknown = unknown or getattr(tokenizer.model, "unk_token", None)
        ids = {tokenizer.token_to_id(text) for text in self._asked.texts if text != unknown}
        self._ids = frozenset(token for token in ids if token is not None)
        # Letters and digits survive whatever a template does to a text: trimming, escaping, JSON, letter case.
        self._mark = f"q{secrets.token_hex(12)}q"
        self._marks = re.compile(self._mark, re.IGNORECASE)

    def look_alikes(self, text: str, role: str = "user") -> list[str]:
        """The control tokens that stand in a text of ``role`` as they are written."""
        return list(dict.fromkeys(self._of(role).within(text)))

    def rendered(self, text: str, role: str = "user") -> Rendered:
        """A text of ``role`` with a break wherever a control token might be found in it or over its ends."""
        return Rendered(text, self._of(role).breaks(text) if self.as_text else ())

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

    def encode(self, rendered: Rendered, *, whole: bool = False) -> Tokens:
        """A text's tokens; with ``whole``, with those that the tokenizer puts around a text.

        Raises InputError where the tokenizer can't but make a control token of ordinary text.
        """
        encoding, places = encode(self._tokenizer, rendered.text, whole=whole), None
        if rendered.breaks and self._control_ids(encoding) != (wanted := self._wanted(rendered)):
            text, places = self._renamed(rendered)
            apart, longest = self._apart, self._tokenizer.truncation
            apart.enable_truncation(**longest) if longest else apart.no_truncation()
            encoding = encode(apart, text, whole=whole)
            if not encoding.overflowing and self._control_ids(encoding) != wanted:
                raise InputError(
                    f"this tokenizer can't write {next(iter(self.look_alikes(rendered.text)), '')!r} as text; take "
                    "it out, or set data.control_tokens: tokens"
                )
        spans = encoding.offsets
        if places is not None:
            spans = [(places.back(start), places.back(end)) for start, end in spans]
        lost = sum(part.special_tokens_mask.count(0) for part in encoding.overflowing)
        return Tokens(list(encoding.ids), list(spans), list(encoding.special_tokens_mask), lost)

    def _of(self, role: str) -> _LookAlikes:
        return self._said if role == "assistant" else self._asked

    def _changed(self, value: Any, role: str, mark: str) -> Any:
        if isinstance(value, str):
            return mark.join(self.rendered(value, role).parts)
        if isinstance(value, dict):
            # A role is nobody's text; it may be a part of the template's markers.
            return {
                key: part if key == "role" else self._changed(part, role, mark)
                for key, part in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._changed(part, role, mark) for part in value]
        return value

    def _wanted(self, rendered: Rendered) -> list[int]:
        """Ids of the control tokens that the encoding of a text must have."""
        ids = (self._tokenizer.token_to_id(text) for text in self.found(rendered))
        return [token for token in ids if token in self._ids]

    def _control_ids(self, encoding: Any) -> list[int]:
        """Ids of the control tokens that an encoding has, but for those that are put around a text."""
        tokens = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
        return [token for token, around in tokens if token in self._ids and not around]

    def _renamed(self, rendered: Rendered) -> tuple[str, _Places]:
        """The text with its control tokens under their other names, and where everything came from."""
        names = self._names
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
    def _names(self) -> dict[str, str]:
        return {text: f"{self._mark}{n:06d}z" for n, text in enumerate(sorted(self._asked.texts))}

    @cached_property
    def _apart(self) -> Tokenizer:
        """The tokenizer with its control tokens under other names, and the same ids."""
        names = self._names
        raw = json.loads(self._tokenizer.to_str())
        for token in raw["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        model = raw["model"]
        if isinstance(model.get("vocab"), dict):
            model["vocab"] = {
                names.get(text, text): token for text, token in model["vocab"].items()
            }
        elif isinstance(model.get("vocab"), list):
            model["vocab"] = [[names.get(text, text), *rest] for text, *rest in model["vocab"]]
        if isinstance(model.get("unk_token"), str):
            model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
        if "merges" in model:
            model["merges"] = [merge for merge in model["merges"] if not _makes(merge, names)]
        renamed = Tokenizer.from_str(json.dumps(raw))
        old, new = (one.get_added_tokens_decoder() for one in (self._tokenizer, renamed))
        if {n: names.get(t.content, t.content) for n, t in old.items()} != {
            n: t.content for n, t in new.items()
        }:
            raise InputError(
                "this tokenizer's control tokens can't be told from text; set data.control_tokens: tokens"
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


class _Places:
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
