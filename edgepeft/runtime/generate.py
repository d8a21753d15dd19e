"""Answering with a bundle, on token ids of edgepeft's own prompts.

onnxruntime-genai does it, or plain onnxruntime where a bundle is laid out without the former. Their tokenizers
and templates are never used: the device must be asked with the very ids the adapter was trained on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Message
from edgepeft.errors import EdgepeftError, InputError, one_line
from edgepeft.runtime.adapter_pool import AdapterPool
from edgepeft.runtime.adapters import BASE, adapter_names
from edgepeft.runtime.answer import Completion, FinishReason, Progress, Stream
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.caches import Caches
from edgepeft.runtime.engine import (
    GREEDY,
    SearchOptions,
    load_model,
    new_generator,
    search_options,
)
from edgepeft.runtime.lookup import Lookup
from edgepeft.runtime.speculation import require_even_steps
from edgepeft.runtime.stopping import StopStrings
from edgepeft.tasks import GENERATION

__all__ = ["Completion", "Runtime", "Stream"]

# A step of a small model throws everything out of the processor's caches, so that spelling out one
# token costs as much as spelling out several: text is put together this often, not oftener.
_PIECE_SECONDS = 0.03


class Runtime:
    """A loaded bundle that answers.

    The turns of a conversation go on from the cache of the turn before; several streams at once are
    safe, each with a cache of its own. ``prompter`` makes the ids, ``bundle`` says what is loaded.
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

        ``adapter_bytes`` bounds what adapters may hold in memory: those used longest ago make way.

        ``threads`` is onnxruntime's own choice by default. ``provider`` overrides the execution
        provider the bundle was built for ("CPUExecutionProvider" or short "cpu", "cuda", …).

        ``speculate`` guesses tokens from the prompt and earlier answers and reads several at once, where the
        likeliest token is taken. The answer does not depend on what was guessed, yet may differ at a near tie
        from the one without: kernels round a token that is read alone unlike one in a pair.

        Raises InputError for a bundle ``Bundle.open`` refuses, MissingError when the runtime or the provider
        is not there or can't speculate, EdgepeftError when the model does not load.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        if self.bundle.task != GENERATION:
            raise InputError(
                f"{self.bundle.path}: is for {self.bundle.task}; open it with edgepeft.runtime.Encoder"
            )
        mode = self.bundle.prompt_mode
        template = mode if mode in ("chat", "plain") else "auto"
        self.prompter = Prompter.from_folder(self.bundle.path, template)
        self._stop_ids = self.prompter.stop_ids
        model = load_model(self.bundle, self._stop_ids, threads=threads, provider=provider)
        self._pool = AdapterPool(self.bundle, model, budget=adapter_bytes)
        if speculate:
            require_even_steps(
                lambda room: new_generator(model, room, GREEDY), self.bundle.vocab_size
            )
        lookup = Lookup() if speculate else None
        self._caches = Caches(model, self.bundle.context_length, self._pool, lookup)
        self._vocab_size = self.bundle.vocab_size
        self._adapter: str | None = None

    @property
    def adapters(self) -> list[str]:
        """The adapters that lie in the bundle now, loaded or not."""
        return adapter_names(self.bundle)

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

    def stream(
        self,
        messages: str | Sequence[Message],
        *,
        system: str | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        adapter: str | None = None,
    ) -> Stream:
        """Answer a prompt or a conversation, piece by piece of text.

        ``temperature`` 0 takes the likeliest token; ``top_k`` 0 and ``top_p`` 1 do not restrict
        sampling, which repeats itself with the same ``seed`` only. The answer ends at a stop
        token, before any of the strings ``stop``, after ``max_new_tokens`` or with the context.
        ``adapter`` names the adapter to answer with, "base" none; by default it is the one last swapped to.

        Raises InputError for a prompt longer than the context, values out of range and messages
        the template refuses; while streaming, EdgepeftError when the runtime fails.
        """
        turns = _conversation(messages, system)
        ids = self.prompter.prompt(turns)
        room = self._room(ids, max_new_tokens)
        options = search_options(
            temperature, top_k, top_p, repetition_penalty, seed, self._vocab_size
        )
        if isinstance(stop, str) or not all(stop):
            raise InputError("stop: must be a list of strings, none of them empty")
        chosen = self._chosen(adapter)
        progress = Progress(ids)
        # A cache holds not quite what reading the whole prompt afresh would give (kernels for one
        # token round unlike those for many), so a prompt that continues nothing never goes on
        # from one: its answer must not depend on what was asked before.
        resume = any(turn["role"] == "assistant" for turn in turns)
        pieces = self._pieces(progress, room, options, StopStrings(stop), resume, chosen)
        return Stream(pieces, progress)

    def complete(
        self,
        messages: str | Sequence[Message],
        *,
        system: str | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        adapter: str | None = None,
    ) -> Completion:
        """The whole answer at once; arguments and errors are those of ``stream``."""
        stream = self.stream(
            messages,
            system=system,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
            stop=stop,
            adapter=adapter,
        )
        for _ in stream:
            pass
        return stream.completion()

    def generate_ids(
        self,
        prompt_ids: list[int],
        *,
        max_new_tokens: int,
        stop_when: Callable[[list[int]], bool] | None = None,
        adapter: str | None = None,
    ) -> list[int]:
        """The likeliest continuation of ``prompt_ids``, without the stop id that ended it.

        ``stop_when`` sees the answer's ids after each token and ends it by returning True. Always
        starts from an empty cache, so that an answer does not depend on the one before. Raises
        InputError for a prompt longer than the context or ids outside the vocabulary,
        EdgepeftError when the runtime fails.
        """
        room = self._room(prompt_ids, max_new_tokens)
        chosen = self._chosen(adapter)
        answer: list[int] = []
        try:
            cached = self._caches.fresh(prompt_ids, len(prompt_ids) + room, GREEDY, chosen)
            generator = cached.generator
            for _ in range(room):
                generator.generate_next_token()
                token = int(generator.get_next_tokens()[0])
                if token in self._stop_ids:
                    break
                answer.append(token)
                if stop_when is not None and stop_when(answer):
                    break
            self._caches.ended(cached)
        except RuntimeError as error:
            raise self._failed(error) from error
        return answer

    def _pieces(
        self,
        progress: Progress,
        room: int,
        options: SearchOptions,
        stopper: StopStrings,
        resume: bool,
        adapter: str | None,
    ) -> Generator[str, None, None]:
        stop_ids, clock, push = self._stop_ids, time.perf_counter, self.prompter.stream()
        pause = 0.0 if stopper.active else _PIECE_SECONDS
        reason: FinishReason = "length"
        pending: list[int] = []

        def spell() -> str:
            progress.ids.extend(pending)
            piece = stopper.push("".join(map(push, pending)))
            pending.clear()
            progress.parts.append(piece)
            return piece

        progress.started = clock()
        try:
            cached = self._caches.take(
                progress.prompt_ids, room, options, resume=resume, adapter=adapter
            )
            step, newest = cached.generator.generate_next_token, cached.generator.get_next_tokens
            due = 0.0
            try:
                for steps in range(1, room + 1):
                    step()
                    token = int(newest()[0])
                    now = clock()
                    if token in stop_ids:
                        reason = "stop"
                        break
                    pending.append(token)
                    if now >= due:
                        due = now + pause
                        progress.reached(steps, now)
                        if piece := spell():
                            yield piece
                        if stopper.hit:
                            break
                progress.reached(steps, now)
            finally:
                self._caches.give_back(cached)
        except RuntimeError as error:
            raise self._failed(error) from error
        if not stopper.hit:
            rest = spell() + self._tail(progress, stopper)
            if rest:
                yield rest
        progress.finish_reason = "stop" if stopper.hit else reason

    def _tail(self, progress: Progress, stopper: StopStrings) -> str:
        """What the streaming decoder and ``stopper`` still hold: at most a few characters."""
        if stopper.hit:
            return ""
        held = stopper.flush()
        shown = "".join(progress.parts) + held
        whole = self.prompter.decode(progress.ids)
        rest = whole[len(shown) :] if whole.startswith(shown) else ""
        tail = stopper.push(held + rest) + stopper.flush()
        progress.parts.append(tail)
        return tail

    def _chosen(self, adapter: str | None) -> str | None:
        """The adapter of a call, loaded; None for the base."""
        name = self._adapter if adapter is None else None if adapter == BASE else adapter
        if name is not None:
            self._pool.load(name)
        return name

    def _room(self, ids: Sequence[int], max_new_tokens: int) -> int:
        """How many tokens may be generated after ``ids``; InputError for ids that cannot be fed."""
        if max_new_tokens < 1:
            raise InputError(f"max_new_tokens: must be 1 or more, not {max_new_tokens}")
        # onnxruntime-genai reads beyond its embedding without a word.
        if not ids or min(ids) < 0 or max(ids) >= self._vocab_size:
            raise InputError(f"prompt: needs one or more token ids below {self._vocab_size}")
        context = self.bundle.context_length
        if len(ids) >= context:
            raise InputError(
                f"prompt: {len(ids)} tokens leave no room for an answer in a context of {context} "
                f"({self.bundle.path}); shorten it"
            )
        return min(max_new_tokens, context - len(ids))

    def _failed(self, error: RuntimeError) -> EdgepeftError:
        return EdgepeftError(f"{self.bundle.path}: the runtime failed ({one_line(error)})")


def _conversation(messages: str | Sequence[Message], system: str | None) -> list[Message]:
    turns: list[Message] = (
        [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
    )
    if system is None:
        return turns
    if turns and turns[0]["role"] == "system":
        raise InputError("system: the messages already begin with a system message; drop one")
    return [{"role": "system", "content": system}, *turns]
