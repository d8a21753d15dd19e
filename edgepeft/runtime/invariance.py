"""Whether a row of a batch answers as it does alone, to the last bit: measured on the machine that will do it.

Kernels are chosen by the number of rows and by the processor, and another kernel may add up in another order. A
difference in the last bit turns the answer where two tokens are nearly as likely, so nothing is assumed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgepeft.errors import EdgepeftError
from edgepeft.runtime.batch import Batch, Reading
from edgepeft.runtime.decoder_session import GraphSession
from edgepeft.runtime.slots import Slot

if TYPE_CHECKING:
    import onnxruntime as ort

_LENGTHS = (3, 600, 41, 1)
"""Tokens behind each of the sequences that are tried, and below the ranks of their adapters."""
_RANKS = (4, 8, 0, 16)
_STEPS = 2

_Logits = npt.NDArray[np.float32]


def equal_widths(
    graph: GraphSession, slots: Sequence[Slot], rows: int, context_length: int
) -> tuple[int, ...]:
    """The widths up to ``rows`` at which a row's logits hang on the row alone; ``rows`` is the last of them.

    Sequences of random keys, values and factors are stepped alone in ``rows`` rows, and then beside each other in
    every width. Raises EdgepeftError where ``rows`` itself is no such width.
    """
    draw = np.random.default_rng(0)
    tried = [
        _sequence(graph, slots, min(length, context_length - _STEPS), rank, draw)
        for length, rank in zip(_LENGTHS, _RANKS, strict=True)
    ]
    alone = [_stepped(graph, slots, rows, {0: one})[0] for one in tried]
    equal = []
    for width in range(1, rows + 1):
        places = [[(row + shift) % len(tried) for row in range(width)] for shift in (0, 1)]
        if all(_as_alone(graph, slots, width, tried, alone, which) for which in places):
            equal.append(width)
    if rows not in equal:
        raise EdgepeftError(
            f"{graph.model_file}: rows of a batch of {rows} change each other on this processor; serve without "
            "--batch"
        )
    return tuple(equal)


def _as_alone(
    graph: GraphSession,
    slots: Sequence[Slot],
    width: int,
    tried: Sequence[Reading],
    alone: Sequence[_Logits],
    which: Sequence[int],
) -> bool:
    """Whether each row steps as its sequence does alone; ``which`` names the sequence of each row."""
    placed = {row: tried[index] for row, index in enumerate(which)}
    found = _stepped(graph, slots, width, placed)
    return all(np.array_equal(found[row], alone[index]) for row, index in enumerate(which))


def _stepped(
    graph: GraphSession, slots: Sequence[Slot], width: int, placed: Mapping[int, Reading]
) -> dict[int, _Logits]:
    """Logits [steps, vocabulary] of each row over a few steps."""
    batch = Batch(graph, slots, (width,))
    for row, reading in placed.items():
        batch.place(row, reading)
    newest = {row: reading.ids[-1] for row, reading in placed.items()}
    steps = []
    for _ in range(_STEPS):
        steps.append(batch.step(newest))
        newest = {row: int(logits.argmax()) for row, logits in steps[-1].items()}
    return {row: np.stack([step[row] for step in steps]) for row in placed}


def _sequence(
    graph: GraphSession,
    slots: Sequence[Slot],
    length: int,
    rank: int,
    draw: np.random.Generator,
) -> Reading:
    """A prompt as if it had been read: random ids, keys, values and states, and factors of rank ``rank`` for
    every slot.
    """
    import onnxruntime as ort

    def values(shape: Sequence[int], size: float) -> npt.NDArray[np.float32]:
        return draw.standard_normal(shape, np.float32) * np.float32(size)

    factors: dict[str, ort.OrtValue] = {}
    for slot in slots if rank else ():
        shapes = (1, slot.width, rank), (1, rank, slot.count)
        for name, shape in zip(slot.inputs, shapes, strict=True):
            factors[name] = ort.OrtValue.ortvalue_from_numpy(values(shape, 0.02))
    ids = draw.integers(0, min(1000, graph.vocab_size), length).tolist()
    reading = Reading(graph, ids, factors)
    reading.cache = [
        ort.OrtValue.ortvalue_from_numpy(values(one.sized(1, length), 1.0).astype(like.dtype))
        for one, (like, _) in zip(graph.cache_tensors, graph.new_cache(1, 1).values(), strict=True)
    ]
    return reading
