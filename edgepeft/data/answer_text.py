"""The text of an answer as its tokens come, whole characters at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def pieces_of(decode: Callable[[Sequence[int]], str]) -> Callable[[int], str]:
    """A function that takes one id after another and returns the text each one completes, by ``decode``."""
    # Not tokenizers' DecodeStream: with byte fallback it raises on bytes that are no UTF-8,
    # which a model may well say, and the answer would end there.
    context: list[int] = []  # the tokens last emitted: they decide on spaces in between
    pending: list[int] = []

    def push(token: int) -> str:
        pending.append(token)
        before, text = decode(context), decode(context + pending)
        if text.endswith("\ufffd"):
            return ""
        new = text[len(before) :] if text.startswith(before) else decode(pending)
        if new:
            context[:] = pending
            pending.clear()
        return new

    return push
