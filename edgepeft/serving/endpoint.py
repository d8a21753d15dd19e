"""What every bundle's endpoint has: its models, whether it is up, and turns for those who ask."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from edgepeft.runtime.bundle import Bundle
from edgepeft.serving.limits import Limits, Turnstile, too_slow
from edgepeft.serving.metrics import Metrics
from edgepeft.serving.refusals import RequestError
from edgepeft.serving.replies import model_entry

_SLICE = 1 << 16
Handler = Callable[[Request], Awaitable[Response]]

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
EMBEDDINGS, RERANK = "/v1/embeddings", "/v1/rerank"
ASKED = (CHAT, COMPLETIONS, EMBEDDINGS, RERANK)
"""The paths that some bundle answers."""


class Endpoint(ABC):
    """The handlers of one loaded bundle; ``asked`` has those of what it is for, by their paths."""

    asked: Mapping[str, Handler]

    def __init__(self, bundle: Bundle, limits: Limits) -> None:
        self.bundle = bundle
        self.limits = limits
        self.metrics = Metrics()
        self._turnstile = Turnstile(limits)
        # Each answer under way waits for the model in a thread of its own.
        self.threads = anyio.CapacityLimiter(limits.concurrent + 1)
        self._started = int(time.time())

    @abstractmethod
    def names(self) -> list[str]:
        """The models there are now."""

    def summary(self) -> str:
        """What is served, for whoever starts the server."""
        return f"{self.bundle.task} at {', '.join(self.asked)}"

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
        return JSONResponse(self._entry(self.known(request.path_params["name"])))

    async def elsewhere(self, request: Request) -> Response:
        """A path that bundles for something else answer."""
        raise RequestError(
            404,
            f"{request.url.path}: this bundle is for {self.bundle.task} and answers "
            f"{' and '.join(f'POST {path}' for path in self.asked)}",
            code="endpoint_not_available",
        )

    def known(self, name: str) -> str:
        """A model that is there. Raises RequestError (404)."""
        if name not in self.names():
            raise RequestError(
                404,
                f"model {name[:80]!r} does not exist here; GET /v1/models lists those that do",
                code="model_not_found",
                param="model",
            )
        return name

    def deadline(self) -> float:
        """When a request that comes now must be answered, by the event loop's clock."""
        return asyncio.get_running_loop().time() + self.limits.answer_seconds

    @contextlib.asynccontextmanager
    async def turn(self, request: Request, deadline: float) -> AsyncIterator[None]:
        """Hold one place for a request whose client is still there. Raises as ``Turnstile.turn``."""
        async with self._turnstile.turn(deadline):
            if await request.is_disconnected():  # while it waited
                raise ClientDisconnect
            yield

    async def require_wanted(self, request: Request, deadline: float) -> None:
        """Raise ClientDisconnect where whoever asked has left, RequestError where it takes too long."""
        if await request.is_disconnected():
            raise ClientDisconnect
        if asyncio.get_running_loop().time() > deadline:
            raise too_slow()

    async def written(self, body: Callable[[], Any]) -> Response:
        """A response of JSON, made in a thread: a long one takes seconds, which others must not wait for.

        It is sent in slices, so that a client that reads slowly is not taken for one that has stopped.
        """

        def made() -> bytes:
            return json.dumps(body(), ensure_ascii=False, separators=(",", ":")).encode()

        whole = await anyio.to_thread.run_sync(made, limiter=self.threads)
        slices = (whole[start : start + _SLICE] for start in range(0, len(whole), _SLICE))
        headers = {"content-length": str(len(whole))}
        return StreamingResponse(_each(slices), media_type="application/json", headers=headers)

    def _entry(self, name: str) -> dict[str, Any]:
        return model_entry(name, self._started, self.bundle.base)


async def _each(slices: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Slices as a stream; a plain iterator would be asked for each in a thread."""
    for one in slices:
        yield one
