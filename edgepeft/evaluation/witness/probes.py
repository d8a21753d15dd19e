"""What the second witness is asked: a few rows of the task, and one text that is longer than every limit within.

A model may treat far tokens unlike near ones: windows of attention, rotary factors that change at a length.
The long text goes past all of them, and its positions are compared on both sides of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST = 8192
"""Tokens of the longest text, whatever the limits are."""

AT_LEAST = 640
"""Tokens of the long text where nothing changes with length: more than a runtime reads at once."""

_TASK_ROWS = 4
_TASK_TOKENS = 512
_TASK_POSITIONS = 16
_LONG_POSITIONS = 32


@dataclass(frozen=True)
class Statement:
    """Token ids, and the positions whose logits are compared, in ascending order.

    ``types`` tell two texts that are read together apart, where a model is told.
    """

    ids: list[int]
    positions: list[int]
    types: list[int] | None = None

    @property
    def last(self) -> int:
        """The last position."""
        return len(self.ids) - 1


@dataclass(frozen=True)
class Limits:
    """Lengths at which a model changes how it treats a text.

    A window of attention changes what the tokens after it see, as the reach of a convolution does. Past
    ``switch`` tokens all positions are rotated by other factors, those of earlier tokens too.
    """

    windows: tuple[int, ...] = ()
    switch: int | None = None

    @property
    def all(self) -> tuple[int, ...]:
        """All of them, in ascending order."""
        return tuple(sorted({*self.windows, *([] if self.switch is None else [self.switch])}))


def limits_of(config: Mapping[str, Any]) -> Limits:
    """The limits of a model, from transformers' own configuration as a mapping."""
    found = (config.get("sliding_window"), config.get("conv_L_cache"))
    windows = tuple(limit for limit in found if isinstance(limit, int) and limit > 0)
    rotary = config.get("rope_parameters") or {}
    limit = rotary.get("original_max_position_embeddings")
    longrope = rotary.get("rope_type") == "longrope" and isinstance(limit, int)
    return Limits(windows, limit if longrope else None)


def long_length(context: int, limits: Limits) -> int:
    """Tokens of the long text: twice the largest limit, within the context and ``LONGEST``."""
    wanted = max([AT_LEAST, *(2 * limit for limit in limits.all)])
    return min(wanted, context, LONGEST)


def task_statements(rows: Sequence[tuple[Sequence[int], int]], virtual: int = 0) -> list[Statement]:
    """Statements of the first rows that are not too long; each is its ids and where its completion begins.

    The positions are those whose output predicts the completion, at most sixteen. ``virtual`` tokens stand before
    them in the model and are no part of the ids.
    """
    chosen = [row for row in rows if len(row[0]) + virtual <= _TASK_TOKENS][:_TASK_ROWS]
    return [
        Statement(list(ids), spread(max(0, start - 1), len(ids) - 2, _TASK_POSITIONS))
        for ids, start in chosen
    ]


def long_statements(text: Sequence[int], length: int, limits: Limits) -> list[Statement]:
    """One text of ``length`` tokens, ``text`` again and again, compared at both sides of every limit and at
    its end.

    Where factors switch within it, the text up to there comes before it: what is read of that alone is another.
    """
    ids = [text[i % len(text)] for i in range(length)]
    ends = [length] if limits.switch is None else sorted({min(limits.switch, length), length})
    return [Statement(ids[:end], _long_positions(end, limits)) for end in ends]


def _long_positions(length: int, limits: Limits) -> list[int]:
    around = {limit + step for limit in limits.all for step in (-2, -1, 0, 1)}
    inside = {position for position in around if 0 <= position < length}
    return sorted(inside | set(spread(0, length - 1, max(2, _LONG_POSITIONS - len(inside)))))


def spread(first: int, last: int, most: int) -> list[int]:
    """At most ``most`` whole numbers from ``first`` to ``last``, both among them, evenly apart."""
    count = last - first + 1
    if count <= most:
        return list(range(first, last + 1))
    return sorted({first + round(i * (count - 1) / (most - 1)) for i in range(most)})
