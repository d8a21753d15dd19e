"""Requests for different adapters decoded together, through plain onnxruntime.

The graph's slots take one adapter for the whole batch or one for each row, so the rows' factors are stacked once,
filled up with zeros to the widest rank, and every step reads the base's weights once for all rows. Prompts are
read one by one, for their lengths differ. Greedy only; a row's logits differ from those it has alone by float
noise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgepeft.errors import InputError
from edgepeft.runtime.adapters import BASE, open_adapter
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.logits import GraphSession
from edgepeft.runtime.slots import Slot, slots_of

if TYPE_CHECKING:
    import onnxruntime as ort

_Array = npt.NDArray[Any]


@dataclass
class BatchRequest:
    """A prompt as token ids, how many tokens may follow, and the adapter that answers ("base": none)."""

    prompt_ids: Sequence[int]
    max_new_tokens: int
    adapter: str = BASE
    answer: list[int] = field(default_factory=list)


class BatchDecoder:
    """Decodes several requests of one hot-swap bundle at a time; not for several threads."""

    def __init__(self, bundle: Bundle | Path | str, *, threads: int | None = None) -> None:
        """Load ``bundle``. Raises InputError for one that takes no adapters, and as ``GraphSession`` does."""
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self._slots = slots_of(self.bundle).slots
        self._graph = GraphSession(self.bundle, threads=threads)
        self._read: dict[str, dict[str, ort.OrtValue]] = {}

    def generate(
        self, requests: Sequence[BatchRequest], stop_ids: Collection[int]
    ) -> list[list[int]]:
        """The likeliest answers, without the stop ids that ended them, in the requests' order.

        Raises InputError for unknown adapters, prompts that leave no room in the context, and no requests.
        """
        if not requests:
            raise InputError("batch: has no requests")
        for name in {request.adapter for request in requests} - {BASE} - set(self._read):
            self._read[name] = self._factors(name)
        lengths = np.array([len(request.prompt_ids) for request in requests])
        longest = int(max(n + r.max_new_tokens for n, r in zip(lengths, requests, strict=True)))
        if longest > self.bundle.context_length:
            raise InputError(
                f"batch: {longest} tokens do not fit into a context of {self.bundle.context_length}"
            )
        cache = self._graph.new_cache(len(requests), longest)
        newest = np.zeros(len(requests), np.int64)
        for row, request in enumerate(requests):
            factors = self._read.get(request.adapter, {})
            newest[row] = self._graph.prefill(request.prompt_ids, cache, row, factors)
        step = self._graph.stepper(cache, self._stacked([r.adapter for r in requests]))
        going = np.ones(len(requests), bool)
        while True:
            for row, request in enumerate(requests):
                if not going[row]:
                    continue
                if int(newest[row]) in stop_ids:
                    going[row] = False
                    continue
                request.answer.append(int(newest[row]))
                going[row] = len(request.answer) < request.max_new_tokens
            if not going.any():
                return [request.answer for request in requests]
            # Rows that are done go on writing at their last place, where nobody reads.
            newest = step(newest, lengths)
            lengths = lengths + going

    def _factors(self, name: str) -> dict[str, ort.OrtValue]:
        """An adapter's inputs, as views of its file."""
        from onnxruntime import AdapterFormat

        path = open_adapter(self.bundle, name).factors
        found: dict[str, ort.OrtValue] = AdapterFormat.read_adapter(str(path)).get_parameters()
        return found

    def _stacked(self, names: Sequence[str]) -> dict[str, ort.OrtValue]:
        """Every slot's factors with a row for each request, float32 [rows, width, R] and [rows, R, count]."""
        import onnxruntime as ort

        made: dict[str, ort.OrtValue] = {}
        # One adapter for all needs no copies of it.
        if len(set(names)) == 1:
            return dict(self._read.get(names[0], {}))
        for slot in self._slots:
            for name, value in _stack(slot, [self._read.get(one, {}) for one in names]).items():
                made[name] = ort.OrtValue.ortvalue_from_numpy(value)
        return made


def _stack(slot: Slot, rows: Sequence[Mapping[str, ort.OrtValue]]) -> dict[str, _Array]:
    name_a, name_b = slot.inputs
    rank = max((row[name_a].shape()[2] for row in rows if name_a in row), default=0)
    if not rank:
        return {}
    down = np.zeros((len(rows), slot.width, rank), np.float32)
    up = np.zeros((len(rows), rank, slot.count), np.float32)
    for index, row in enumerate(rows):
        if name_a in row:
            own = row[name_a].shape()[2]
            down[index, :, :own] = row[name_a].numpy()[0]
            up[index, :own] = row[name_b].numpy()[0]
    return {name_a: down, name_b: up}
