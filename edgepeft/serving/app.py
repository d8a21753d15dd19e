"""The endpoint: one bundle, each of its adapters a model.

An answer has its own cache and keeps the adapter it began with, so that nothing another request does can change
it, whether the runtime makes each in a thread of its own or several in one batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import replace
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edgepeft.bundle.files import DamagedError
from edgepeft.errors import EdgepeftError, InputError, one_line
from edgepeft.runtime.adapters import BASE
from edgepeft.runtime.answer import Stream
from edgepeft.runtime.answering import Answerer
from edgepeft.runtime.slots import takes_adapters
from edgepeft.serving.answer_format import requested_grammar
from edgepeft.serving.limits import Limits, Turnstile, read_body, too_slow
from edgepeft.serving.origins import LOOPBACK_NAMES, OriginCheck
from edgepeft.serving.protocol import ChatRequest, Reply, RequestError, model_entry

_END = object()


class Endpoint:
    """The handlers of one loaded bundle."""

    def __init__(self, runtime: Answerer, limits: Limits) -> None:
        self._runtime = runtime
        self._limits = limits
        self._turnstile = Turnstile(limits)
        # Each answer under way waits for its next token in a thread of its own.
        self._threads = anyio.CapacityLimiter(limits.concurrent + 1)
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
        deadline = asyncio.get_running_loop().time() + self._limits.answer_seconds
        asked = ChatRequest.read(await read_body(request, self._limits))
        name = self._known(asked.model)
        sampling = asked.sampling(self._limits.tokens)
        adapter = name if takes_adapters(self._runtime.bundle) else None
        async with contextlib.AsyncExitStack() as held:
            await held.enter_async_context(self._turnstile.turn(deadline))
            if await request.is_disconnected():  # while it waited
                raise ClientDisconnect

            def begin() -> Stream:
                # Compiling a grammar takes a while, which other requests must not wait for.
                return self._runtime.stream(
                    asked.turns(),
                    sampling,
                    adapter=adapter,
                    grammar=requested_grammar(asked.response_format),
                )

            stream = await anyio.to_thread.run_sync(begin, limiter=self._threads)
            held.enter_context(stream)
            reply = Reply(name)
            if asked.stream:
                usage = asked.stream_options is not None and asked.stream_options.include_usage
                # The turn and the adapter are held as long as the answer lasts, which is longer than this call.
                events = self._events(stream, reply, usage, deadline)
                return _Streamed(events, held.pop_all())
            async for _ in self._pieces(stream, deadline):
                if await request.is_disconnected():
                    raise ClientDisconnect
            return JSONResponse(reply.whole(stream.completion()))

    async def _events(
        self, stream: Stream, reply: Reply, usage: bool, deadline: float
    ) -> AsyncIterator[str]:
        """An answer as server-sent events."""
        yield _event(reply.piece({"role": "assistant", "content": ""}))
        try:
            async for piece in self._pieces(stream, deadline):
                if piece:
                    yield _event(reply.piece({"content": piece}))
        except (EdgepeftError, RequestError) as error:
            yield _event(_as_request_error(error).body())
            return
        done = stream.completion()
        yield _event(reply.piece({}, done))
        if usage:
            yield _event(reply.usage(done))
        yield "data: [DONE]\n\n"

    async def _pieces(self, stream: Stream, deadline: float) -> AsyncIterator[str]:
        """The pieces of a stream, which stays open. Raises RequestError where it isn't done by ``deadline``."""
        clock = asyncio.get_running_loop().time

        def advance() -> object:
            return next(stream, _END)

        while (piece := await anyio.to_thread.run_sync(advance, limiter=self._threads)) is not _END:
            yield str(piece)
            if clock() > deadline:
                raise too_slow()

    def _known(self, name: str) -> str:
        if name not in self.names():
            raise RequestError(
                404,
                f"model {name[:80]!r} does not exist here; GET /v1/models lists those that do",
                code="model_not_found",
                param="model",
            )
        return name

    def _entry(self, name: str) -> dict[str, Any]:
        return model_entry(name, self._started, self._runtime.bundle.base)


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


def make_app(
    runtime: Answerer, limits: Limits, *, hosts: Collection[str] | None = None
) -> Starlette:
    """The ASGI application for a loaded bundle; ``hosts`` are the names a request may call it by, None any."""
    endpoint = Endpoint(runtime, limits)
    return Starlette(
        routes=[
            Route("/health", endpoint.health),
            Route("/v1/models", endpoint.models),
            Route("/v1/models/{name}", endpoint.model),
            Route("/v1/chat/completions", endpoint.chat, methods=["POST"]),
        ],
        middleware=[Middleware(OriginCheck, hosts=hosts)],
        exception_handlers={
            RequestError: _refused,
            EdgepeftError: _failed,
            HTTPException: _no_such_route,
            ClientDisconnect: _gone,
            Exception: _broken,
        },
    )


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _as_request_error(error: EdgepeftError | RequestError) -> RequestError:
    """The runtime's complaint as a response: the request's fault, or this server's."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, DamagedError):
        # The client can't mend it; whoever serves is told where to look.
        print(f"edgepeft: {error}", file=sys.stderr, flush=True)
        return RequestError(
            500, "a file of this model has been changed or is missing", code="damaged"
        )
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


async def _broken(request: Request, error: Exception) -> Response:
    """What nobody foresaw; uvicorn writes the traceback to standard error."""
    return await _refused(request, RequestError(500, "this server failed on the request"))


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)


Ready = Callable[[str], None]


def serve(runtime: Answerer, limits: Limits, *, host: str, port: int, ready: Ready) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is under way; ``ready`` is told the address.

    Port 0 takes one that is free. Raises EdgepeftError where the address can't be had.
    """
    import socket

    import uvicorn

    from edgepeft.serving.connections import connections_within

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise EdgepeftError(f"{host}:{port}: {error.strerror}; choose another --port") from None
    except (
        TypeError,
        ValueError,
    ) as error:  # a name that is none, which Python's own encoder of names finds
        listener.close()
        raise InputError(f"--host {host[:80]!r}: not an address ({one_line(error)})") from None
    config = uvicorn.Config(
        make_app(runtime, limits, hosts=(*LOOPBACK_NAMES, host) if _is_loopback(host) else None),
        http=connections_within(_within_open_files(limits)),
        # Whatever else is installed: the protocol above is made for this loop, and there are no websockets.
        loop="asyncio",
        ws="none",
        # The address of a client is its own, not what a header says.
        proxy_headers=False,
        log_level="error",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=30,
    )
    # Whoever is told the address may connect at once.
    listener.listen(config.backlog)
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{listener.getsockname()[1]}/v1")
    uvicorn.Server(config).run(sockets=[listener])


def _within_open_files(limits: Limits) -> Limits:
    """No more connections than this process may open files for, beside those of the model."""
    try:
        import resource
    except ImportError:  # Windows has no such bound
        return limits
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = max(16, most - 128) if most != resource.RLIM_INFINITY else limits.connections
    return replace(
        limits,
        connections=min(limits.connections, room),
        per_client=min(limits.per_client, max(8, room // 2)),
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
