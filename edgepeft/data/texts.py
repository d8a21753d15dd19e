"""The one way from a text to an encoder's token ids, for trainer, calibration, reference, verifier and device.

Needs only ``tokenizers``. A word's prediction is that of its first token; words are found by their place in the
text, so that a row of separate words is read exactly as the same words are in running text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepeft.data.control_tokens import ControlTokens, Policy
from edgepeft.data.look_alikes import Span
from edgepeft.data.tokenizer_files import (
    read_control_tokens,
    read_json,
    read_special_tokens,
    read_tokenizer,
)

WHOLE = 1 << 24
"""A longest length that cuts nothing off."""

_WORD = re.compile(r"\w+(?:['’\-.]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class EncodedText:
    """Token ids of a text, or of two read together, special tokens included.

    ``places`` are the tokens' spans in a single text; special tokens have none and are (0, 0). ``types`` tell the
    tokens of a first text from those of a second. ``lost`` counts the tokens cut off behind the longest length.
    """

    ids: list[int]
    places: list[Span]
    lost: int
    types: list[int]

    def first_tokens(self, words: Sequence[Span]) -> list[int | None]:
        """For each word the index of its first token; None for a word that was cut off."""
        starts: dict[int, int] = {}
        for index, (start, end) in enumerate(self.places):
            if end > start:
                starts.setdefault(start, index)
        return [
            next((starts[at] for at in range(begin, end) if at in starts), None)
            for begin, end in words
        ]


_LONG = 4
"""Characters for each token that a model reads, up to which two texts go to the library as they are."""
_LONGEST_WORD = 256
_SPACE = re.compile(r"\s")


class TextEncoder:
    """Turns texts into token ids of at most ``max_length``; made with ``from_folder``."""

    def __init__(self, folder: Path, max_length: int, control_tokens: Policy = "text") -> None:
        """Read a model folder's tokenizer; ``control_tokens`` says what text that looks like one is. Raises
        InputError for a missing or corrupt file.
        """
        self.max_length = max_length
        special = read_special_tokens(folder)
        self.tokenizer = read_tokenizer(folder, special)
        self.control = ControlTokens(
            self.tokenizer,
            further=read_control_tokens(folder),
            unknown=special.get("unk_token"),
            as_text=control_tokens == "text",
        )
        self.named_pad: int | None = self.tokenizer.token_to_id(special.get("pad_token", ""))
        self.end: int | None = self.tokenizer.token_to_id(special.get("eos_token", ""))
        stated = read_json(folder / "config.json").get("pad_token_id")
        known = stated if type(stated) is int and stated >= 0 else 0
        self.pad_id: int = known if self.named_pad is None else self.named_pad
        # Truncated by the library, a text keeps its special tokens at both ends, and the longer of two gives way.
        self.tokenizer.enable_truncation(max_length)

    def encode(self, text: str, second: str | None = None) -> EncodedText:
        """The tokens of a text, or of it and a ``second`` one, whose places are not told."""
        if second is not None:
            return self._encode_both(text, second)
        tokens = self.control.encode(self.control.rendered(text), whole=True)
        places = [
            (0, 0) if around else _without_space(text, place)
            for place, around in zip(tokens.places, tokens.around, strict=True)
        ]
        return EncodedText(tokens.ids, places, tokens.lost, tokens.types)

    def _encode_both(self, text: str, second: str) -> EncodedText:
        # The library keeps whatever it cuts off, every piece of one text with every piece of the other.
        texts, ends = (text, second), [self._end(text), self._end(second)]
        lost = 0
        if ends != [len(text), len(second)]:
            own = [self._own(one) for one in texts]
            lost = sum(own)
            # The longer one is left the odd token.
            longer = 0 if own[0] > own[1] else 1
            while ends[longer] < len(texts[longer]):
                cut = [self._own(one[:end]) for one, end in zip(texts, ends, strict=True)]
                if (cut[0] > cut[1]) == (longer == 0):
                    break
                ends[longer] *= 2
        one, other = (
            self.control.rendered(each[:end]) for each, end in zip(texts, ends, strict=True)
        )
        tokens = self.control.encode(one, other, whole=True)
        lost = lost - tokens.around.count(0) if lost else tokens.lost
        return EncodedText(tokens.ids, [], lost, tokens.types)

    def _end(self, text: str) -> int:
        """How many characters of a text hold ``max_length`` of its tokens, and the word there: of two texts
        together no more is ever read of one.
        """
        if len(text) <= _LONG * self.max_length:
            return len(text)
        tokens = self.control.encode(self.control.rendered(text))
        if not tokens.lost:
            return len(text)
        end = tokens.places[-1][1]
        space = _SPACE.search(text, end, end + _LONGEST_WORD)
        return min(len(text), end + _LONGEST_WORD) if space is None else space.start()

    def _own(self, text: str) -> int:
        """How many tokens a text has by itself."""
        tokens = self.control.encode(self.control.rendered(text))
        return len(tokens.ids) + tokens.lost


def _without_space(text: str, place: Span) -> Span:
    """Byte-level tokenizers count the space before a word to its first token."""
    start, end = place
    while start < end and text[start].isspace():
        start += 1
    return start, end


def spans_of(words: Sequence[str]) -> list[Span]:
    """Where words stand in the text that they make with a space between each."""
    spans: list[Span] = []
    start = 0
    for word in words:
        spans.append((start, start + len(word)))
        start += len(word) + 1
    return spans


def words_in(text: str) -> list[Span]:
    """The words of running text, punctuation marks apart."""
    return [match.span() for match in _WORD.finditer(text)]
