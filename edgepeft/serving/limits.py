"""What a server takes on at once and how long it waits, and what it turns away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request

from edgepeft.serving.refusals import RequestError


@dataclass(frozen=True)
class Limits:
    """``body_bytes`` and ``tokens`` bound one request, ``concurrent`` the answers under way, ``waiting`` the
    requests that wait for their turn; more are refused. ``connections`` bounds all of them and ``per_client``
    those from one address: where there is no more room, the one that has been waited for longest is closed.

    A client has ``header_seconds`` from its first byte, or from connecting, until its request's headers are
    there, ``body_seconds`` until its body is, and ``write_seconds`` to read what it is sent when that has
    filled the system's buffers. An answer has ``answer_seconds`` from the request to its end, waiting included.
    """

    body_bytes: int = 1 << 20
    tokens: int = 1024
    concurrent: int = 4
    waiting: int = 64
    connections: int = 512
    per_client: int = 256
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    write_seconds: float = 30.0
    answer_seconds: float = 600.0


class Turnstile:
    """Lets a number of requests in at once and a number wait; belongs to one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._slots = asyncio.Semaphore(limits.concurrent)
        self._most = limits.waiting
        self._waiting = 0

    @contextlib.asynccontextmanager
    async def turn(self, deadline: float) -> AsyncIterator[None]:
        """Hold one place, which is there by ``deadline`` (of the event loop's clock) or not at all.

        Raises RequestError where too many wait already (429) or it takes too long (503).
        """
        if self._slots.locked() and self._waiting >= self._most:
            raise RequestError(429, "too many requests are waiting; try again", code="overloaded")
        self._waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        except TimeoutError:
            raise too_slow() from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()


def too_slow() -> RequestError:
    """What is said of an answer that took longer than it may."""
    return RequestError(503, "the answer took too long and was given up", code="timeout")


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body of a request. Raises RequestError as soon as it is too long (413) or takes too long (408)."""
    most = limits.body_bytes
    too_long = RequestError(413, f"the body is longer than {most} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > most:
        raise too_long
    parts = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in request.stream():
                parts += part
                if len(parts) > most:
                    raise too_long
    except TimeoutError:
        raise RequestError(408, "the body did not come in time") from None
    return bytes(parts)
