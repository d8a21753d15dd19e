"""Answering with a bundle, each answer by itself.

onnxruntime-genai does it, or plain onnxruntime where a bundle is laid out without the former.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgepeft.bundle.layout import GENAI
from edgepeft.errors import EdgepeftError, InputError, MissingError, one_line
from edgepeft.guidance.grammar import Grammar
from edgepeft.runtime.adapter_pool import AdapterPool, GenaiAdapters
from edgepeft.runtime.adapters import BASE
from edgepeft.runtime.answer import Completion, Said, Stream
from edgepeft.runtime.answering import Answerer, Request
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.engine import load_model, new_generator
from edgepeft.runtime.guided import GuidedReader, WatchedReader
from edgepeft.runtime.kv_cache import Cached, Caches
from edgepeft.runtime.lookup import Lookup
from edgepeft.runtime.pieces import LEAST
from edgepeft.runtime.sampling_params import SamplingParams
from edgepeft.runtime.search_options import GREEDY
from edgepeft.runtime.slots import takes_adapters
from edgepeft.runtime.speculation import SpeculativeGenerator, require_even_steps

__all__ = ["Completion", "Runtime", "Stream"]


class Runtime(Answerer):
    """A loaded bundle that answers.

    The turns of a conversation go on from the cache of the turn before; several streams at once are
    safe, each with a cache of its own.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        threads: int | None = None,
        provider: str | None = None,
        adapter_bytes: int | None = None,
        speculate: bool = False,
    ) -> None:
        """Load ``bundle``; a path is opened with all its checks.

        ``adapter_bytes`` bounds what adapters may hold in memory: the least recently used are evicted.

        ``threads`` is by default one for each core that this process may use. ``provider`` overrides the
        execution provider the bundle was built for ("CPUExecutionProvider" or short "cpu", "cuda", …).

        ``speculate`` guesses tokens from the prompt and earlier answers and reads several at once, where the
        likeliest token is taken. The answer does not depend on what was guessed, yet may differ at a near tie
        from the one without: kernels round a token that is read alone unlike one in a pair.

        Raises InputError for a bundle ``Bundle.open`` refuses, MissingError when the runtime or the provider
        is not there or can't speculate, EdgepeftError when the model does not load.
        """
        super().__init__(bundle)
        # onnxruntime-genai takes no state back.
        plain = speculate and self.bundle.keeps_states
        if plain and takes_adapters(self.bundle):
            raise MissingError(
                f"speculate: {self.bundle.path}: this model's convolutions keep states, which {GENAI} can't take "
                "back, and it is what swaps adapters; leave it off"
            )
        stop_ids = self.prompter.stop_ids
        model = load_model(self.bundle, stop_ids, threads=threads, provider=provider, plain=plain)
        self._pool = AdapterPool(self.bundle, GenaiAdapters(model), budget=adapter_bytes)
        if speculate and self.bundle.rotary_switch is not None:
            raise MissingError(
                f"speculate: this model's rotary factors change after {self.bundle.rotary_switch} tokens, where "
                "guessed tokens can't be taken back; leave it off"
            )
        if speculate:
            require_even_steps(
                lambda room: new_generator(model, room, GREEDY), self.bundle.vocab_size
            )
        lookup = Lookup() if speculate else None
        self._caches = Caches(
            model,
            self.bundle.context_length,
            self._pool,
            lookup,
            # A turn that is taken back may lie before a switch of rotary factors that the cache has passed.
            keeps=self.bundle.rotary_switch is None,
        )
        self._adapter: str | None = None

    @property
    def loaded_adapters(self) -> list[str]:
        """The adapters in memory, the one used longest ago first."""
        return self._pool.loaded

    @property
    def adapter(self) -> str | None:
        """The adapter that answers where a call names none; None is the base."""
        return self._adapter

    def load_adapter(self, name: str) -> None:
        """Bring an adapter into memory before it is asked for.

        Raises InputError for one that is unknown, damaged or of another base, EdgepeftError where the memory
        budget is full of adapters in use.
        """
        self._pool.load(name)

    def prefetch_adapter(self, name: str) -> None:
        """The same in the background; what goes wrong then shows when the adapter is asked for."""
        self._pool.prefetch(name)

    def unload_adapter(self, name: str) -> None:
        """Let go of an adapter. Raises InputError where it is not loaded, or an answer still uses it."""
        self._pool.unload(name)
        if self._adapter == name:
            self._adapter = None

    def swap_adapter(self, name: str | None) -> None:
        """Answer with another adapter from the next call on, or with the base for None.

        Raises as ``load_adapter``. Answers under way go on with the adapter they began with.
        """
        if name is not None:
            self._pool.load(name)
        self._adapter = name

    def generate_ids(
        self,
        prompt_ids: list[int],
        *,
        max_new_tokens: int,
        stop_when: Callable[[list[int]], bool] | None = None,
        adapter: str | None = None,
        grammar: Grammar | None = None,
    ) -> list[int]:
        """The likeliest continuation of ``prompt_ids``, within ``grammar``, without the stop id that ended it.

        ``stop_when`` sees the answer's ids after each token and ends it by returning True. Always
        starts from an empty cache, so that an answer does not depend on the one before. Raises
        InputError for a prompt longer than the context or ids outside the vocabulary,
        EdgepeftError when the runtime fails.
        """
        room = self.room(prompt_ids, SamplingParams(max_new_tokens=max_new_tokens))
        chosen = self._chosen(adapter)
        matcher = self.matcher(grammar)
        request = Request(prompt_ids, room, GREEDY, chosen, continues=False, matcher=matcher)
        answer: list[int] = []
        try:
            fresh = self._caches.fresh(prompt_ids, len(prompt_ids) + room, GREEDY, chosen)
            with contextlib.closing(fresh) as cached:
                with contextlib.closing(self._said(cached, request)) as tokens:
                    for said in tokens:
                        if said.id in self.prompter.stop_ids:
                            break
                        answer.append(said.id)
                        if stop_when is not None and stop_when(answer):
                            break
                self._caches.ended(cached)
        except RuntimeError as error:
            raise self._failed(error) from error
        return answer

    def _tokens(self, request: Request) -> Generator[Said, None, None]:
        try:
            # A cache holds not quite what reading the whole prompt afresh would give (kernels for one
            # token round unlike those for many), so a prompt that continues nothing never goes on
            # from one: its answer must not depend on what was asked before.
            cached = self._caches.take(
                request.prompt_ids,
                request.room,
                request.options,
                resume=request.continues,
                adapter=request.adapter,
            )
            try:
                yield from self._said(cached, request)
            finally:
                # Also where whoever asked has left the stream, or forgotten it.
                self._caches.give_back(cached)
        except RuntimeError as error:
            raise self._failed(error) from error

    def _said(self, cached: Cached, request: Request) -> Generator[Said, None, None]:
        """The tokens of an answer whose prompt ``cached`` has read."""
        # It reads its cache anew at a switch for tokens that it chooses itself, and not for those it is given.
        if GENAI in self.bundle.runtimes:
            if request.matcher is not None:
                self._refuse_switch(
                    cached.prompt_length, request.room, "an answer within a grammar"
                )
            elif request.shift is not None:
                self._refuse_switch(cached.prompt_length, request.room, "an answer with penalties")
            elif request.top is not None:
                self._refuse_switch(cached.prompt_length, request.room, "log-probabilities")
        # Held by this frame alone, which has ended when the cache is closed.
        reader = self._reader(cached, request)
        for _ in range(request.room):
            yield reader.next()

    def _reader(
        self, cached: Cached, request: Request
    ) -> SpeculativeGenerator | GuidedReader | WatchedReader:
        """What gives an answer's tokens, over the generator that has read its prompt."""
        generator, stop_ids = cached.generator, self.prompter.stop_ids
        if isinstance(generator, SpeculativeGenerator):
            generator.bound_by(request.choice(stop_ids))
            return generator
        if request.matcher is None and request.shift is None:
            # The runtime's own way to choose, so that asking for log-probabilities changes no sampled answer.
            return WatchedReader(generator, request.top)
        return GuidedReader(generator, request.choice(stop_ids))

    def _rows(
        self, prompt_ids: Sequence[int], completion_ids: Sequence[int], adapter: str | None
    ) -> Generator[npt.NDArray[np.float32], None, None]:
        # Plain onnxruntime reads everything anew there, and gives the rows of the last part alone.
        self._refuse_switch(len(prompt_ids), len(completion_ids), "scores")
        total = len(prompt_ids) + len(completion_ids)
        try:
            fresh = self._caches.fresh(list(prompt_ids), total, GREEDY, adapter, guesses=False)
            with contextlib.closing(fresh) as cached:
                generator = cached.generator
                try:
                    yield np.array(generator.get_logits()[0, -1:], np.float32)
                    # A reader may take more at once in several passes, and gives the rows of the last one alone.
                    for start in range(0, len(completion_ids) - 1, LEAST):
                        part = completion_ids[start : min(start + LEAST, len(completion_ids) - 1)]
                        generator.append_tokens(np.array(part, np.int32))
                        yield np.array(generator.get_output("logits")[0, -len(part) :], np.float32)
                finally:
                    # An adapter can't be given back while a generator that reads with it lives.
                    del generator
        except RuntimeError as error:
            raise self._failed(error) from error

    def _refuse_switch(self, prompt: int, room: int, what: str) -> None:
        """Raise InputError where what is asked for could go over a switch of rotary factors."""
        switch = self.bundle.rotary_switch
        if switch is not None and prompt <= switch < prompt + room:
            raise InputError(
                f"a prompt of {prompt} tokens and an answer of up to {room} go over {switch} tokens, where this "
                f"model's rotary factors change and {what} can't follow; ask for fewer "
                f"(max_new_tokens up to {switch - prompt}), or without"
            )

    def _chosen(self, adapter: str | None) -> str | None:
        name = self._adapter if adapter is None else None if adapter == BASE else adapter
        if name is not None:
            self._pool.load(name)
        return name

    def _failed(self, error: RuntimeError) -> EdgepeftError:
        return EdgepeftError(f"{self.bundle.path}: the runtime failed ({one_line(error)})")
