"""What a single token says: the bytes of text that it stands for, wherever it comes in a text.

A token may be part of a character only, so that it has bytes and no text of its own.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from tokenizers import Tokenizer

_FALLBACK = re.compile("<0x([0-9A-F]{2})>")


class TokenTexts:
    """The texts of one tokenizer's tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = {
            token: added.content for token, added in tokenizer.get_added_tokens_decoder().items()
        }
        # As it is pickled: the whole tokenizer as text takes as long as loading it.
        decoder = tokenizer.decoder
        kinds = _kinds(None if decoder is None else json.loads(decoder.__getstate__()))
        self._of_bytes = "ByteLevel" in kinds
        self._falls_back = "ByteFallback" in kinds
        # Answers and the alternatives to their tokens say the same ones again and again.
        self._known: dict[int, bytes | None] = {}

    def bytes_of(self, token: int) -> bytes | None:
        """The bytes of a token; None for an id that the tokenizer lacks, as of a padded embedding."""
        if token not in self._known:
            self._known[token] = self._found(token)
        return self._known[token]

    def _found(self, token: int) -> bytes | None:
        if token in self._added:
            return self._added[token].encode()
        piece: str | None = self._tokenizer.id_to_token(token)
        if piece is None:
            return None
        if self._of_bytes and all(char in _bytes() for char in piece):
            return bytes(_bytes()[char] for char in piece)
        if self._falls_back and (found := _FALLBACK.fullmatch(piece)):
            return bytes.fromhex(found[1])
        decoder = self._tokenizer.decoder
        if decoder is None:
            return piece.encode()
        # Behind itself, for what a decoder does to the beginning of a text is not the token's.
        before, both = decoder.decode([piece]), decoder.decode([piece, piece])
        return str(both[len(before) :]).encode()

    def text(self, token: int) -> str:
        """The same as text; a part of a character is written ``bytes:\\xe2\\x80``, as OpenAI's API does."""
        found = self.bytes_of(token)
        if found is None:
            return f"token:{token}"
        try:
            return found.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in found)


def _kinds(decoder: Any) -> set[str]:
    """The kinds of steps that a decoder of a ``tokenizer.json`` has."""
    if not isinstance(decoder, dict):
        return set()
    inner = [_kinds(step) for step in decoder.get("decoders", ())]
    return {str(decoder.get("type")), *(kind for kinds in inner for kind in kinds)}


@cache
def _bytes() -> dict[str, int]:
    """The characters that byte-level tokenizers write bytes as (GPT-2's ``bytes_to_unicode``): those that can be
    seen stand for themselves, the others for the characters from 256 on.
    """
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in seen]
    written = {chr(256 + place): byte for place, byte in enumerate(others)}
    return {**{chr(byte): byte for byte in seen}, **written}
