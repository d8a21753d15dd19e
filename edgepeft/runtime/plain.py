"""Answering through plain onnxruntime: for bundles laid out without onnxruntime-genai's configuration.

The generator has the interface of onnxruntime-genai's, so that caches, streaming and speculation work on either.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.decoder_session import GraphSession
from edgepeft.runtime.devices import find_adapter
from edgepeft.runtime.pieces import prompt_chunk
from edgepeft.runtime.providers import SOFTWARE_CHUNK, provider_name
from edgepeft.runtime.sampling import Sampler
from edgepeft.runtime.search_options import SearchOptions


class PlainModel:
    """A bundle's graph in onnxruntime; ``device_type`` is what runs it. Makes generators."""

    def __init__(
        self,
        bundle: Bundle,
        stop_ids: Collection[int],
        *,
        threads: int | None = None,
        provider: str | None = None,
    ) -> None:
        """Raises as ``GraphSession`` does, InputError for a provider that has no name here."""
        full = provider_name(provider or bundle.provider)
        self.graph = GraphSession(bundle, threads=threads, providers=[full])
        self.stop_ids = stop_ids
        self.device_type = full.removesuffix("ExecutionProvider")
        software = find_adapter(full).software
        self.chunk = SOFTWARE_CHUNK if software else prompt_chunk(self.graph.vocab_size)

    def generator(self, capacity: int, options: SearchOptions) -> PlainGenerator:
        """A generator with room for ``capacity`` tokens, prompt and answer together."""
        return PlainGenerator(self, capacity, options)


class PlainGenerator:
    """One sequence and its cache. Raises EdgepeftError when onnxruntime fails."""

    def __init__(self, model: PlainModel, capacity: int, options: SearchOptions) -> None:
        self._graph = model.graph
        self._read = model.graph.reader(capacity)
        self._chunk = model.chunk
        self._sampler = Sampler(options, model.stop_ids)
        self._ids: list[int] = []
        self._held = self._until = 0
        self._logits = np.zeros((0, model.graph.vocab_size), np.float32)

    def append_tokens(self, tokens: Sequence[int] | npt.NDArray[np.int32]) -> None:
        """Read tokens, int32 [n], into the cache, with those generated since."""
        self._ids.extend(map(int, tokens))
        self._feed()

    def generate_next_token(self) -> None:
        """Choose the next token; it is read when the one after it is asked for."""
        if self._held < len(self._ids):
            self._feed()
        self._ids.append(self._sampler.choose(self._logits[-1], self._ids))

    def get_next_tokens(self) -> list[int]:
        """The newest token."""
        return self._ids[-1:]

    def get_logits(self) -> npt.NDArray[Any]:
        """The logits float32 [1, 1, V] of the newest token, which is read if it was not yet."""
        if self._held < len(self._ids):
            self._feed()
        return self._logits[None, -1:]

    def get_output(self, name: str) -> npt.NDArray[Any]:
        """The logits float32 [1, n, V] of the n tokens that were read last."""
        return self._logits[None]

    def get_sequence(self, index: int) -> npt.NDArray[np.int32]:
        """Prompt and answer so far, int32 [n]."""
        return np.array(self._ids, np.int32)

    def rewind_to(self, length: int) -> int:
        """Forget all but the first ``length`` tokens, or more where the cache can't go back to those; how many
        are left.
        """
        held = min(self._held, length)
        self._held = self._read.kept(held)
        del self._ids[length if self._held == held else self._held :]
        return len(self._ids)

    def _feed(self) -> None:
        until = len(self._ids)
        # What was read for a text on the other side of a switch of rotary factors is read again.
        if self._graph.switches(self._until, until) or self._graph.switches(until, self._until):
            self._held = 0
        self._until = until
        while self._held < until:
            part = self._ids[self._held : self._held + self._chunk]
            self._logits = self._read(part, self._held, until)
            self._held += len(part)
