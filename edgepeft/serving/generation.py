"""Answers over HTTP: one bundle that generates text, each of its adapters a model.

An answer has its own cache and keeps the adapter it began with, so that nothing another request does can change
it, whether the runtime makes each in a thread of its own or several in one batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from edgepeft.data.token_text import TokenTexts
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.runtime.adapters import BASE
from edgepeft.runtime.answer import Completion, Stream
from edgepeft.runtime.answering import Answerer
from edgepeft.runtime.sampling_params import MAX_SEED, SamplingParams
from edgepeft.runtime.slots import takes_adapters
from edgepeft.serving.answer_format import requested_grammar
from edgepeft.serving.called import Calling
from edgepeft.serving.chat import ChatRequest
from edgepeft.serving.completions import CompletionRequest
from edgepeft.serving.endpoint import CHAT, COMPLETIONS, Endpoint
from edgepeft.serving.limits import Limits, read_body, too_slow
from edgepeft.serving.refusals import RequestError, as_request_error
from edgepeft.serving.replies import ChatReply, CompletionReply, Reply
from edgepeft.serving.sampled import Sampled

_END = object()

Begin = Callable[[SamplingParams], Stream]
"""Begins an answer; it may take a while, and so is called in a thread."""


@dataclass(frozen=True)
class _Asked:
    """A request for answers: what begins one to each prompt, and the form they are wanted in."""

    fields: Sampled
    begin: Sequence[Begin]
    reply: Reply
    deadline: float


class GenerationEndpoint(Endpoint):
    """The handlers of one loaded bundle that generates text."""

    def __init__(self, runtime: Answerer, limits: Limits) -> None:
        super().__init__(runtime.bundle, limits)
        self._runtime = runtime
        self.asked = {CHAT: self.chat, COMPLETIONS: self.completions}

    @cached_property
    def _texts(self) -> TokenTexts:
        return TokenTexts(self._runtime.prompter.tokenizer)

    def names(self) -> list[str]:
        """The base and every adapter, or for a merged bundle its target."""
        return (
            [BASE, *self._runtime.adapters] if takes_adapters(self.bundle) else [self.bundle.target]
        )

    def summary(self) -> str:
        """As ``Endpoint.summary``."""
        return f"{len(self._runtime.adapters)} adapters"

    async def chat(self, request: Request) -> Response:
        """``POST /v1/chat/completions``."""
        deadline = self.deadline()
        asked = ChatRequest.read(await read_body(request, self.limits))
        name = self.known(asked.model)
        offered = asked.offered

        def begin(sampling: SamplingParams) -> Stream:
            # Within a grammar made of the tools, whatever the bundle's own is.
            grammar = None if offered.tools else requested_grammar(asked.response_format)
            return self._runtime.stream(
                asked.turns(),
                sampling,
                adapter=self._adapter(name),
                grammar=grammar,
                tools=offered,
            )

        texts = None if asked.sampling().logprobs is None else self._texts
        use = self._runtime.tool_use
        calling = (
            Calling(use, offered, self._runtime.prompter, bool(asked.stop))
            if offered.tools
            else None
        )
        reply = ChatReply(name, texts, calling)
        return await self._answer(request, _Asked(asked, [begin], reply, deadline))

    async def completions(self, request: Request) -> Response:
        """``POST /v1/completions``."""
        deadline = self.deadline()
        asked = CompletionRequest.read(await read_body(request, self.limits))
        name = self.known(asked.model)

        def begins(ids: list[int]) -> Begin:
            def begin(sampling: SamplingParams) -> Stream:
                return self._runtime.stream_ids(ids, sampling, adapter=self._adapter(name))

            return begin

        texts = None if asked.logprobs is None else self._texts
        reply = CompletionReply(name, texts, self._runtime.prompter)
        prompts = await anyio.to_thread.run_sync(self._all_ids, asked, limiter=self.threads)
        begin = [begins(ids) for ids in prompts]
        return await self._answer(request, _Asked(asked, begin, reply, deadline))

    def _adapter(self, name: str) -> str | None:
        return name if takes_adapters(self.bundle) else None

    def _ids(self, prompt: str | list[int]) -> list[int]:
        """Ids of a prompt that no template has seen, behind those that stand before every prompt."""
        if isinstance(prompt, str):
            return self._runtime.prompter.text(prompt)
        lead = list(self.bundle.virtual_ids)
        return prompt if prompt[: len(lead)] == lead else [*lead, *prompt]

    def _all_ids(self, asked: CompletionRequest) -> list[list[int]]:
        """Ids of each prompt, before the first is answered. Raises RequestError that names a bad one."""
        found = []
        for at, prompt in enumerate(asked.prompt):
            try:
                found.append(self._ids(prompt))
                self._runtime.room(found[-1], asked.sampling())
            except InputError as error:
                where = f"prompt.{at}" if len(asked.prompt) > 1 else "prompt"
                said = str(error).removeprefix("prompt: ")
                raise RequestError(400, f"{where}: {said}", param=where) from None
        return found

    async def _answer(self, request: Request, asked: _Asked) -> Response:
        fields = asked.fields
        sampling = fields.sampling(self.limits.tokens)
        async with contextlib.AsyncExitStack() as held:
            await held.enter_async_context(self.turn(request, asked.deadline))
            if fields.stream:
                stream = await self._begun(asked.begin[0], sampling)
                held.enter_context(stream)
                held.callback(self._count, stream)
                # The turn and the adapter are held as long as the answer lasts, which is longer than this call.
                return _Streamed(self._events(stream, asked), held.pop_all())
            done: list[Completion] = []
            for begin in asked.begin:
                # An answer that is not sampled is the same each time.
                own = fields.n if sampling.temperature else 1
                made: list[Completion] = []
                for place in range(own):
                    await self.require_wanted(request, asked.deadline)
                    chosen = seeded(sampling, place)
                    made.append(
                        await self._whole(
                            request, begin, chosen, asked, first=not done and not made
                        )
                    )
                done += made * (fields.n // own)
            return await self.written(lambda: asked.reply.whole(done, len(asked.begin)))

    async def _begun(self, begin: Begin, sampling: SamplingParams) -> Stream:
        # Compiling a grammar takes a while, which other requests must not wait for.
        return await anyio.to_thread.run_sync(begin, sampling, limiter=self.threads)

    async def _whole(
        self,
        request: Request,
        begin: Begin,
        sampling: SamplingParams,
        asked: _Asked,
        *,
        first: bool,
    ) -> Completion:
        """A whole answer, maybe the request's ``first``. Raises ClientDisconnect where its client has left."""
        with await self._begun(begin, sampling) as stream:
            try:
                async for _ in self._pieces(stream, asked.deadline, first=first):
                    if await request.is_disconnected():
                        raise ClientDisconnect
                return stream.completion()
            finally:
                self._count(stream)

    def _count(self, stream: Stream) -> None:
        """Count the tokens of an answer that has ended, however it did."""
        done = stream.completion()
        self.metrics.read.inc(len(done.prompt_ids))
        self.metrics.written.inc(len(done.ids))

    async def _events(self, stream: Stream, asked: _Asked) -> AsyncIterator[str]:
        """An answer as server-sent events."""
        reply, sent = asked.reply, 0
        follow = reply.following()
        if (opening := reply.opening()) is not None:
            yield _event(opening)
        try:
            async for piece in self._pieces(stream, asked.deadline):
                if shown := follow(piece, stream.ids):
                    fresh = stream.logprobs[sent:]
                    sent += len(fresh)
                    yield _event(reply.piece(shown, fresh))
        except (EdgepeftError, RequestError) as error:
            yield _event(as_request_error(error).body())
            return
        done = stream.completion()
        for event in reply.ending(done, done.logprobs[sent:]):
            yield _event(event)
        yield _event(reply.closing(done))
        options = asked.fields.stream_options
        if options is not None and options.include_usage:
            yield _event(reply.usage(done))
        yield "data: [DONE]\n\n"

    async def _pieces(
        self, stream: Stream, deadline: float, *, first: bool = True
    ) -> AsyncIterator[str]:
        """The pieces of a stream, which stays open: the ``first`` of a request, or a further one.

        Raises RequestError where it isn't done by ``deadline``.
        """
        clock = asyncio.get_running_loop().time
        waited = clock() - (deadline - self.limits.answer_seconds) if first else None

        def advance() -> object:
            return next(stream, _END)

        while True:
            piece = await anyio.to_thread.run_sync(advance, limiter=self.threads)
            if waited is not None and stream.first_token_seconds is not None:
                self.metrics.first_token.observe(waited + stream.first_token_seconds)
                waited = None
            if piece is _END:
                return
            yield str(piece)
            if clock() > deadline:
                raise too_slow()


class _Streamed(StreamingResponse):
    """A stream that gives back what it holds however it ends, also where the client left before it began."""

    def __init__(self, events: AsyncIterator[str], held: contextlib.AsyncExitStack) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, as far as the client stays."""
        async with self._held:
            with contextlib.suppress(ClientDisconnect):
                await super().__call__(scope, receive, send)


def seeded(sampling: SamplingParams, place: int) -> SamplingParams:
    """How the answer at a ``place`` among several is made: a seed gives each of them another."""
    if sampling.seed is None:
        return sampling
    return replace(sampling, seed=(sampling.seed + place) % (MAX_SEED + 1))


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
