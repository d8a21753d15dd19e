"""How large a template's values are: what they take, and what they come to once written out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2.exceptions import SecurityError

MAX_BYTES = 16_000_000
"""Bytes that one value may have, and what it holds written out; more than any conversation has."""
MAX_WHOLE = 2**63
NODE_BYTES = 64
"""What one member of a list is counted as, at least: it may be an object of its own."""


def shallow(value: Any) -> int:
    """Bytes of a value itself, without what it holds. Raises SecurityError for an absurdly large number."""
    if isinstance(value, str):
        return len(value) if value.isascii() else 4 * len(value)
    if isinstance(value, list | tuple | dict | set):
        return 8 * len(value)
    if isinstance(value, int) and abs(value) > MAX_WHOLE:
        raise SecurityError("it computes with absurdly large numbers")
    return 0


def expanded(value: Any) -> int:
    """Bytes of a value with all that it holds, each part counted as often as it is reached.

    That is what it takes to write it out, to compare it or to hash it: a list that holds another twice is worth
    both, so that a few lists in each other may come to more than any machine has. Raises SecurityError beyond
    MAX_BYTES.
    """
    if not isinstance(value, list | tuple | Mapping | set | frozenset):
        return shallow(value)
    total, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            waiting.extend(item.keys())
            waiting.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            waiting.extend(item)
        total += max(NODE_BYTES, shallow(item))
        if total > MAX_BYTES:
            raise SecurityError(f"it makes a string or list of more than {MAX_BYTES} bytes")
    return total
