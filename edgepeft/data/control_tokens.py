"""Text that looks like a control token stays text; only what a template writes itself is one.

A tokenizer finds control tokens anywhere in a text. So a look-alike in a message is marked before the template
renders it, which shows where it ends up, and a text with look-alikes is encoded by a second tokenizer that
knows the control tokens under names that nobody can guess: there the template's own are found, and everything
else is ordinary text. A text without look-alikes goes through the tokenizer as it is.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from tokenizers import Tokenizer

from edgepeft.data.look_alikes import LookAlikes, Places, Rendered, Span, is_word, texts_in
from edgepeft.data.tokenizer_files import encode
from edgepeft.errors import InputError

_START, _END, _BREAK = "s", "e", "b"
"""Kinds of marks: around a look-alike, and where a control token might lie across the end of a text."""

Policy = Literal["text", "tokens"]
"""What text that looks like a control token is: text, or the token."""


def policy_of(settings: Mapping[str, Any]) -> Policy:
    """What a recipe's data section or a bundle's manifest says of it."""
    return "tokens" if settings.get("control_tokens") == "tokens" else "text"


@dataclass(frozen=True)
class Tokens:
    """Ids of a text or of two, and of the same length where each lies in its text, 1 where the tokenizer put one
    around, and the type that tells the texts apart. ``lost`` counts their own tokens that were cut off.
    """

    ids: list[int]
    places: list[Span]
    around: list[int]
    types: list[int]
    lost: int


class ControlTokens:
    """The control tokens of one tokenizer, and how texts with their look-alikes are encoded.

    They are its special tokens and the added ones that the template writes (``<think>``, ``<tool_call>``). A
    model's answers may hold the latter, for decoding shows them: in an assistant's turns they are tokens. A
    token of a single character, and one of white space, is never told from text.
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
        self._said = LookAlikes(special)
        self._asked = LookAlikes(special | markers) if markers - special else self._said
        self._normalizes = tokenizer.normalizer is not None and any(
            token.normalized for token in told if token.content in self._asked.texts
        )
        self._ids = self._numbers(self._asked.texts)
        known = {unknown, getattr(tokenizer.model, "unk_token", None)}
        self._unknown = self._numbers(
            text for text in self._asked.texts if text in known or "unk" in text.lower()
        )
        # Letters and digits survive whatever a template does to a text: trimming, escaping, JSON, letter case.
        self._mark = f"q{secrets.token_hex(12)}q"
        self._marks = re.compile(f"{self._mark}([{_START}{_END}{_BREAK}])", re.IGNORECASE)

    def look_alikes(self, value: Any, role: str = "user") -> list[str]:
        """The control tokens that stand in a text of ``role`` as they are written, or in all texts of a value."""
        looks = self._of(role)
        return list(
            dict.fromkeys(look for text, _ in texts_in(value) for look in looks.within(text))
        )

    def rendered(self, text: str, role: str = "user") -> Rendered:
        """A text of ``role`` with a break wherever a control token might be found in it or over its ends."""
        return Rendered(text, self._breaks(text, self._of(role)) if self.as_text else ())

    def marked(self, value: Any, role: str) -> Any:
        """``value``, a message or a part of one, with marks around the look-alikes in its texts, and at the
        places where one might be found that begins or ends outside of them.
        """
        return self._changed(value, lambda text: self._with_marks(text, self._of(role)))

    def neutral(self, value: Any, role: str) -> Any:
        """``value`` with a letter in every look-alike, which makes another text of it."""
        return self._changed(value, lambda text: "x".join(self.rendered(text, role).parts))

    def unmarked(self, text: str) -> Rendered:
        """A rendering of marked messages without the marks; what is left between two of them is broken."""
        parts, breaks, place, last = [], set[int](), 0, 0
        for match in self._marks.finditer(text):
            part = text[last : match.start()]
            parts.append(part)
            if match.group(1).lower() == _END and part in self._asked.texts:
                breaks |= {place + inside for inside in self._asked.breaks(part)}
            place += len(part)
            last = match.end()
            breaks.add(place)
        return Rendered("".join([*parts, text[last:]]), tuple(sorted(breaks)))

    def found(self, rendered: Rendered) -> list[str]:
        """The control tokens of a text, in order, none of them across a break."""
        return [match for part in rendered.parts for match in self._asked.within(part)]

    def encode(
        self, rendered: Rendered, second: Rendered | None = None, *, whole: bool = False
    ) -> Tokens:
        """The tokens of a text, or of it and a ``second`` one; with ``whole``, with those that the tokenizer puts
        around them.

        Raises InputError where the tokenizer can't but make a control token of ordinary text.
        """
        both = [rendered] if second is None else [rendered, second]
        texts: list[str] = [one.text for one in both]
        places: list[Places] = []
        encoding = encode(self._tokenizer, *texts, whole=whole)
        broken = any(one.breaks for one in both)
        wanted = [token for one in both for token in self._wanted(one)] if broken else []
        if broken and self._control_ids(self._tokenizer, texts, encoding) != wanted:
            renamed = [self.renamed(one) for one in both]
            texts, places = [text for text, _ in renamed], [where for _, where in renamed]
            apart, longest = self.apart, self._tokenizer.truncation
            if apart.truncation != longest:  # another thread may be encoding with it
                apart.enable_truncation(**longest) if longest else apart.no_truncation()
            encoding = encode(apart, *texts, whole=whole)
            if not encoding.overflowing and self._control_ids(apart, texts, encoding) != wanted:
                looks = (look for one in both for look in self.look_alikes(one.text))
                raise InputError(
                    f"this tokenizer can't write {next(looks, '')!r} as text; take it out, or set "
                    "data.control_tokens: tokens"
                )
        spans = list(encoding.offsets)
        if places:
            of = [places[number or 0] for number in encoding.sequence_ids]
            spans = [
                (of[at].back(start), of[at].back(end)) for at, (start, end) in enumerate(spans)
            ]
        return Tokens(
            list(encoding.ids),
            spans,
            list(encoding.special_tokens_mask),
            list(encoding.type_ids),
            _lost(encoding, paired=second is not None),
        )

    def _numbers(self, texts: Iterable[str]) -> frozenset[int]:
        """Ids of tokens by their texts."""
        ids = map(self._tokenizer.token_to_id, texts)
        return frozenset(token for token in ids if token is not None)

    def _of(self, role: str) -> LookAlikes:
        return self._said if role == "assistant" else self._asked

    def _changed(self, value: Any, change: Callable[[str], str]) -> Any:
        if isinstance(value, str):
            return change(value) if self.as_text else value
        if isinstance(value, dict):
            return {
                key: part if is_word(key, part) else self._changed(part, change)
                for key, part in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._changed(part, change) for part in value]
        return value

    def _with_marks(self, text: str, looks: LookAlikes) -> str:
        whole = [match.span() for match in looks.pattern.finditer(text)]
        inside = {place for start, end in whole for place in range(start + 1, end)}
        marks = [(start, _START) for start, _ in whole] + [(end, _END) for _, end in whole]
        marks += [(n, _BREAK) for n in self._breaks(text, looks) if n not in inside]
        # Where one look-alike ends and another begins, the end comes first.
        pieces, last = [], 0
        for place, kind in sorted(marks, key=lambda mark: (mark[0], mark[1] == _START)):
            pieces += [text[last:place], self._mark, kind]
            last = place
        return "".join([*pieces, text[last:]])

    def _breaks(self, text: str, looks: LookAlikes) -> tuple[int, ...]:
        places = looks.breaks(text)
        if not self._normalizes:
            return places
        # Some are looked for in what a text becomes, full-width letters or capitals made plain.
        encoding = encode(self._tokenizer, text, whole=False)
        found = zip(encoding.ids, encoding.offsets, strict=True)
        own = {start + 1 for token, (start, _) in found if token in self._ids}
        return tuple(sorted({*places, *own}))

    def _wanted(self, rendered: Rendered) -> list[int]:
        """Ids of the control tokens that the encoding of a text must have."""
        ids = (self._tokenizer.token_to_id(text) for text in self.found(rendered))
        return [token for token in ids if token in self._ids]

    def _control_ids(self, tokenizer: Tokenizer, texts: Sequence[str], encoding: Any) -> list[int]:
        """Ids of the control tokens that an encoding of ``texts`` has, but for those that are put around them and
        for what stands for unknown characters.
        """
        found = []
        masks = (encoding.special_tokens_mask, encoding.sequence_ids)
        tokens = zip(encoding.ids, encoding.offsets, *masks, strict=True)
        for token, (start, end), around, of in tokens:
            if token not in self._ids or around:
                continue
            said = texts[of or 0][start:end]
            if token in self._unknown and said != tokenizer.id_to_token(token):
                continue
            found.append(token)
        return found

    def renamed(self, rendered: Rendered) -> tuple[str, Places]:
        """The text with its control tokens under their other names, and where everything came from."""
        names = self._names
        places, pieces = Places(), []
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
    def apart(self) -> Tokenizer:
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


def _lost(encoding: Any, *, paired: bool) -> int:
    """Tokens of the texts that were cut off. Of two texts cut together each piece goes with every other's, so
    that those behind the end come more than once.
    """
    if not paired:
        return sum(part.special_tokens_mask.count(0) for part in encoding.overflowing)
    pieces = [_own_tokens(one) for one in (encoding, *encoding.overflowing)]
    return len(set().union(*pieces) - pieces[0])


def _own_tokens(encoding: Any) -> set[tuple[int, Span, int]]:
    """The tokens of the texts themselves: of which text, where in it, and which."""
    found = zip(encoding.sequence_ids, encoding.offsets, encoding.ids, strict=True)
    return {(of, tuple(place), token) for of, place, token in found if of is not None}


def _makes(merge: Any, names: dict[str, str]) -> bool:
    """Whether a BPE merge makes a control token, or goes on from one."""
    left, right = merge if isinstance(merge, list) else merge.split(" ", 1)
    return any(text in names for text in (left, right, left + right))
