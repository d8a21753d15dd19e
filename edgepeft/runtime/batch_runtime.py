"""Answering many requests together: each joins the running batch when a row is free and leaves it when it ends.

An answer hangs on its prompt, its adapter and its seed alone: what a row's logits are does not depend on the
other rows, which is measured before anything is answered (``invariance``). Beside answers that onnxruntime-genai
makes one by one, near ties may fall otherwise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgepeft.errors import InputError
from edgepeft.runtime.adapter_pool import AdapterPool
from edgepeft.runtime.adapters import BASE, open_adapter
from edgepeft.runtime.answer import Said
from edgepeft.runtime.answering import Answerer, Request
from edgepeft.runtime.batch import Batch, Reading
from edgepeft.runtime.batch_loop import Answer, Loop
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.decoder_session import GraphSession
from edgepeft.runtime.devices import CPU
from edgepeft.runtime.factors import FactorFile, Factors, read_factors
from edgepeft.runtime.invariance import equal_widths
from edgepeft.runtime.pieces import prompt_chunk
from edgepeft.runtime.slots import slots_of, takes_adapters


class BatchRuntime(Answerer):
    """A loaded bundle that makes up to ``rows`` answers at a time, on the CPU; ``widths`` are those of a step."""

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        rows: int,
        threads: int | None = None,
        adapter_bytes: int | None = None,
    ) -> None:
        """Load ``bundle`` and measure that rows of a batch do not change each other.

        ``adapter_bytes`` bounds what adapters may hold in memory, beside the copies in the rows that use them.
        Raises InputError for less than two rows and for bundles that ``Bundle.open`` or ``GraphSession`` refuse,
        EdgepeftError where rows do change each other.
        """
        super().__init__(bundle)
        if rows < 2:
            raise InputError(f"batch: must be 2 or more rows, not {rows}")
        if self.bundle.rotary_switch is not None:
            raise InputError(
                f"batch: rotary factors change after {self.bundle.rotary_switch} tokens, for all rows "
                "at once; answer one by one, without batch"
            )
        slots = slots_of(self.bundle).slots if takes_adapters(self.bundle) else ()
        self._graph = GraphSession(self.bundle, threads=threads, providers=[CPU])
        self.widths = equal_widths(self._graph, slots, rows, self.bundle.context_length)
        self._files = FactorFiles()
        self._pool = AdapterPool(self.bundle, self._files, budget=adapter_bytes)
        batch = Batch(self._graph, slots, self.widths)
        self._loop = Loop(batch, self._begin)

    def close(self) -> None:
        """End every answer under way; further requests are refused."""
        self._loop.close()

    def _tokens(self, request: Request) -> Generator[Said, None, None]:
        answer = Answer(request, self.prompter.stop_ids)
        self._loop.submit(answer)
        yield from answer.tokens()

    def _rows(
        self, prompt_ids: Sequence[int], completion_ids: Sequence[int], adapter: str | None
    ) -> Generator[npt.NDArray[np.float32], None, None]:
        # Read in the caller's thread, beside the batch: a session of onnxruntime is for many.
        ids = [*prompt_ids, *completion_ids[:-1]]
        with contextlib.ExitStack() as held:
            factors: Factors = {}
            if adapter is not None:
                held.enter_context(self._pool.lease(adapter))
                factors = self._files[adapter]
            read = self._graph.reader(len(ids), factors)
            chunk = prompt_chunk(self._graph.vocab_size)
            for start in range(0, len(ids), chunk):
                logits = read(ids[start : start + chunk], start, len(ids))
                first = max(len(prompt_ids) - 1 - start, 0)
                if first < len(logits):
                    yield logits[first:]

    def _chosen(self, adapter: str | None) -> str | None:
        if adapter is None or adapter == BASE:
            return None
        return open_adapter(self.bundle, adapter).name

    def _begin(self, answer: Answer) -> Reading:
        name = answer.request.adapter
        factors: Factors = {}
        if name is not None:
            answer.lease = self._pool.lease(name)
            factors = self._files[name]
        return Reading(self._graph, answer.request.prompt_ids, factors)


class FactorFiles:
    """Adapters' files as inputs of a graph, by name; a loader for an ``AdapterPool``."""

    def __init__(self) -> None:
        self._read: dict[str, FactorFile] = {}

    def __getitem__(self, name: str) -> Factors:
        """The inputs of an adapter that is loaded."""
        return self._read[name].inputs

    def load(self, path: Path, name: str) -> None:
        """Read a file. Raises RuntimeError."""
        self._read[name] = read_factors(path)

    def unload(self, name: str) -> None:
        """Let go of it."""
        del self._read[name]
