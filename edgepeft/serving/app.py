"""The endpoint: one bundle, each of its adapters a model.

An answer has its own cache and keeps the adapter it began with, so that nothing another request does can change
it, whether the runtime makes each in a thread of its own or several in one batch.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edgepeft.errors import EdgepeftError, InputError
from edgepeft.runtime.adapters import BASE
from edgepeft.runtime.answer import Stream
from edgepeft.runtime.answering import Answerer
from edgepeft.runtime.slots import takes_adapters
from edgepeft.serving.limits import Limits, Turnstile, read_body
from edgepeft.serving.protocol import ChatRequest, Reply, RequestError, model_entry

_END = object()
_LOOPBACK = ("127.0.0.1", "localhost")


class Endpoint:
    """The handlers of one loaded bundle."""

    def __init__(self, runtime: Answerer, limits: Limits) -> None:
        self._runtime = runtime
        self._limits = limits
        self._turnstile = Turnstile(limits)
        self._started = int(time.time())

    def names(self) -> list[str]:
        """The models there are now: the base and every adapter, or for a merged bundle its target."""
        bundle = self._runtime.bundle
        return [BASE, *self._runtime.adapters] if takes_adapters(bundle) else [bundle.target]

    async def health(self, request: Request) -> Response:
        """``GET /health``."""
        return JSONResponse({"status": "ok"})

    async def models(self, request: Request) -> Response:
        """``GET /v1/models``."""
        return JSONResponse(
            {"object": "list", "data": [self._entry(name) for name in self.names()]}
        )

    async def model(self, request: Request) -> Response:
        """``GET /v1/models/NAME``."""
        return JSONResponse(self._entry(self._known(request.path_params["name"])))

    async def chat(self, request: Request) -> Response:
        """``POST /v1/chat/completions``."""
        asked = ChatRequest.read(await read_body(request, self._limits))
        name = self._known(asked.model)
        settings = asked.settings(self._limits.tokens)
        if takes_adapters(self._runtime.bundle):
            settings["adapter"] = name
        # The turn lasts as long as the answer, which for a stream is longer than this call.
        turn = self._turnstile.turn()
        await turn.__aenter__()
        held = True
        try:
            stream = await anyio.to_thread.run_sync(
                lambda: self._runtime.stream(asked.turns(), **settings)
            )
            reply = Reply(name)
            if asked.stream:
                usage = asked.stream_options is not None and asked.stream_options.include_usage
                held = False
                return _Streamed(self._events(stream, reply, usage), turn)
            async for _ in self._pieces(stream):
                if await request.is_disconnected():
                    raise ClientDisconnect
            return JSONResponse(reply.whole(stream.completion()))
        finally:
            if held:
                await turn.__aexit__(None, None, None)

    async def _events(self, stream: Stream, reply: Reply, usage: bool) -> AsyncIterator[str]:
        """An answer as server-sent events."""
        yield _event(reply.piece({"role": "assistant", "content": ""}))
        try:
            async for piece in self._pieces(stream):
                yield _event(reply.piece({"content": piece}))
        except EdgepeftError as error:
            yield _event(_as_request_error(error).body())
            return
        done = stream.completion()
        yield _event(reply.piece({}, done))
        if usage:
            yield _event(reply.usage(done))
        yield "data: [DONE]\n\n"

    async def _pieces(self, stream: Stream) -> AsyncIterator[str]:
        try:
            while (piece := await anyio.to_thread.run_sync(next, stream, _END)) is not _END:
                yield str(piece)
        finally:
            stream.close()

    def _known(self, name: str) -> str:
        if name not in self.names():
            raise RequestError(
                404,
                f"model {name!r} does not exist here; GET /v1/models lists those that do",
                code="model_not_found",
                param="model",
            )
        return name

    def _entry(self, name: str) -> dict[str, Any]:
        return model_entry(name, self._started, self._runtime.bundle.base)


class _Streamed(StreamingResponse):
    """A stream that gives its turn back however it ends, also where the client left before it began."""

    def __init__(self, events: AsyncIterator[str], turn: AbstractAsyncContextManager[None]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._turn = turn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, as far as the client stays."""
        try:
            with contextlib.suppress(ClientDisconnect):
                await super().__call__(scope, receive, send)
        finally:
            await self._turn.__aexit__(None, None, None)


def make_app(runtime: Answerer, limits: Limits, *, hosts: Sequence[str] = ("*",)) -> Starlette:
    """The ASGI application for a loaded bundle; ``hosts`` are the names a request may call it by."""
    endpoint = Endpoint(runtime, limits)
    return Starlette(
        routes=[
            Route("/health", endpoint.health),
            Route("/v1/models", endpoint.models),
            Route("/v1/models/{name}", endpoint.model),
            Route("/v1/chat/completions", endpoint.chat, methods=["POST"]),
        ],
        # A web page whose name was pointed at this machine must not read answers.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={
            RequestError: _refused,
            EdgepeftError: _failed,
            HTTPException: _no_such_route,
            ClientDisconnect: _gone,
        },
    )


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _as_request_error(error: EdgepeftError) -> RequestError:
    """The runtime's complaint as a response: the request's fault, or this server's."""
    return RequestError(400 if isinstance(error, InputError) else 503, str(error))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    headers = {"retry-after": "1"} if error.status in (429, 503) else None
    return JSONResponse(error.body(), error.status, headers)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, EdgepeftError)
    return await _refused(request, _as_request_error(error))


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return await _refused(request, RequestError(error.status_code, str(error.detail)))


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)


Ready = Callable[[str], None]


def serve(runtime: Answerer, limits: Limits, *, host: str, port: int, ready: Ready) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is under way; ``ready`` is told the address.

    Port 0 takes one that is free. Raises EdgepeftError where the address can't be had.
    """
    import socket

    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise EdgepeftError(f"{host}:{port}: {error.strerror}; choose another --port") from None
    config = uvicorn.Config(
        make_app(runtime, limits, hosts=_LOOPBACK if host in _LOOPBACK else ("*",)),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=30,
        # Idle connections are few beside those that ask for something.
        limit_concurrency=limits.concurrent + limits.waiting + 32,
    )
    # Whoever is told the address may connect at once.
    listener.listen(config.backlog)
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{listener.getsockname()[1]}/v1")
    uvicorn.Server(config).run(sockets=[listener])
