"""How many tokens are read together: memory must not grow with a text's length times the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator

LOGIT_BYTES = 64 * 2**20
"""Bytes of float32 logits that a model gives at once where they are all compared."""
LEAST = 16
"""Tokens at once, however large the vocabulary: fewer waste a pass."""
MOST = 256
PROMPT = 512
"""Tokens of a prompt at once, but for a large vocabulary."""
PROMPT_BYTES = 128 * 2**20
"""Bytes of float32 logits that a graph gives for a part of a prompt."""


def at_once(vocabulary: int) -> int:
    """How many tokens are compared together where each has so many logits."""
    return max(LEAST, min(MOST, LOGIT_BYTES // (4 * vocabulary)))


def prompt_chunk(vocabulary: int) -> int:
    """How many tokens of a prompt are read together where each has so many logits: an even number."""
    return max(LEAST, min(PROMPT, PROMPT_BYTES // (4 * vocabulary)) // 2 * 2)


def pieces(count: int, vocabulary: int) -> Iterator[slice]:
    """``count`` tokens in stretches of so many, in their order."""
    size = at_once(vocabulary)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
