"""Sequences of one graph that are decoded together, each with an adapter of its own, joining and leaving at will.

A step reads the base's weights once for all rows. The rows' factors lie stacked, filled up with zeros to the
widest rank, so that every row's branch is a product of its own; prompts are read one by one. Which widths a
step may have is settled beforehand (``invariance``): at those a row's logits are the same to the last bit
whatever the other rows hold. Plain onnxruntime on the CPU; nothing here is for several threads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgepeft.runtime.cache_tensors import CacheTensor
from edgepeft.runtime.decoder_graph import Cache
from edgepeft.runtime.decoder_session import GraphSession, Step
from edgepeft.runtime.factors import Factors
from edgepeft.runtime.slots import Slot

if TYPE_CHECKING:
    import onnxruntime as ort

PIECE = 64
"""Tokens of a prompt read at once: rows under way wait no longer than that takes."""
_CAPACITY = 256


class Reading:
    """A prompt that is being read for a row, ``PIECE`` tokens at a time."""

    def __init__(self, graph: GraphSession, ids: Sequence[int], factors: Factors) -> None:
        self._graph = graph
        self.ids = list(ids)
        self.factors = factors
        self.read = 0
        self.cache: list[ort.OrtValue] | None = None

    def advance(self) -> npt.NDArray[np.float32] | None:
        """Read one piece more; logits float32 [V] after the last one, else None. Raises EdgepeftError."""
        piece = self.ids[self.read : self.read + PIECE]
        logits, self.cache = self._graph.read(piece, self.cache, self.read, self.factors)
        self.read += len(piece)
        return logits if self.read == len(self.ids) else None


class Batch:
    """Rows of one graph, of which a step takes the smallest of ``widths`` that holds those in use."""

    def __init__(self, graph: GraphSession, slots: Sequence[Slot], widths: Collection[int]) -> None:
        """``slots`` are the bundle's, none for one that takes no adapters."""
        self._graph = graph
        self._slots = slots
        self._widths = sorted(widths)
        self.rows = self._widths[-1]
        self._lengths = np.zeros(self.rows, np.int64)
        self._used: set[int] = set()
        self._capacity = _CAPACITY
        self._cache: Cache = graph.new_cache(self.rows, self._capacity)
        self._stacked: dict[str, npt.NDArray[np.float32]] = {}
        self._steps: dict[int, Step] = {}

    @property
    def free(self) -> int | None:
        """The first row that is not in use."""
        return next((row for row in range(self.rows) if row not in self._used), None)

    def place(self, row: int, reading: Reading) -> None:
        """Put a prompt that was read whole into a row that is free."""
        count = len(reading.ids)
        self._reserve(count)
        for one, value in zip(self._graph.cache_tensors, reading.cache or (), strict=True):
            place = self._cache[one.name][0][row]
            place[_filled(one, count)] = value.numpy()[0]
        if not self._used:
            # Nobody is left whose rank the stack was widened for.
            self._stacked.clear()
            self._steps.clear()
        self._stack(row, reading.factors)
        self._lengths[row] = count
        self._used.add(row)

    def drop(self, row: int) -> None:
        """Free a row; what it holds is never read again."""
        self._used.discard(row)
        self._lengths[row] = 0

    def step(self, newest: Mapping[int, int]) -> dict[int, npt.NDArray[np.float32]]:
        """Feed every row in use its newest token; logits float32 [V] of each. Raises EdgepeftError."""
        last = max(self._used)
        width = next(width for width in self._widths if width > last)
        self._reserve(int(self._lengths.max()) + 1)
        if width not in self._steps:
            self._steps[width] = self._stepper(width)
        tokens = np.zeros(width, np.int64)
        for row, token in newest.items():
            tokens[row] = token
        # Rows that are free are fed a token at position 0, where nobody reads.
        logits = self._steps[width](tokens, self._lengths[:width].copy())
        for row in self._used:
            self._lengths[row] += 1
        return {row: logits[row] for row in self._used}

    def _stepper(self, width: int) -> Step:
        import onnxruntime as ort

        # onnxruntime works in numpy's own memory, so rows can be written from outside.
        view = ort.OrtValue.ortvalue_from_numpy
        cache = {name: view(values[:width]) for name, (values, _) in self._cache.items()}
        factors = {name: view(values[:width]) for name, values in self._stacked.items()}
        return self._graph.stepper(cache, factors)

    def _reserve(self, tokens: int) -> None:
        """Make room for a sequence of that many tokens."""
        if tokens <= self._capacity:
            return
        old, kept = self._cache, self._capacity
        while self._capacity < tokens:
            self._capacity *= 2
        self._cache = self._graph.new_cache(self.rows, self._capacity)
        for one in self._graph.cache_tensors:
            for new, values in zip(self._cache[one.name][0], old[one.name][0], strict=True):
                new[_filled(one, kept)] = values
        self._steps.clear()

    def _stack(self, row: int, factors: Factors) -> None:
        """Put an adapter's factors into a row, or none."""
        for slot in self._slots:
            name_a, name_b = slot.inputs
            own = factors[name_a].shape()[2] if name_a in factors else 0
            self._widen(slot, own)
            if name_a not in self._stacked:
                continue
            down, up = self._stacked[name_a], self._stacked[name_b]
            down[row], up[row] = 0, 0
            if own:
                down[row, :, :own] = factors[name_a].numpy()[0]
                up[row, :own] = factors[name_b].numpy()[0]

    def _widen(self, slot: Slot, rank: int) -> None:
        """Have a slot's stack take factors of ``rank``."""
        name_a, name_b = slot.inputs
        old = self._stacked.get(name_a)
        before = 0 if old is None else old.shape[2]
        if rank <= before:
            return
        down = np.zeros((self.rows, slot.width, rank), np.float32)
        up = np.zeros((self.rows, rank, slot.count), np.float32)
        if old is not None:
            down[:, :, :before], up[:, :before] = old, self._stacked[name_b]
        self._stacked[name_a], self._stacked[name_b] = down, up
        self._steps.clear()


def _filled(one: CacheTensor, tokens: int) -> tuple[slice, ...]:
    """Where the first ``tokens`` of a row lie in its part of a cache; a state is one whole."""
    return (slice(None), slice(tokens)) if one.grows else ()
