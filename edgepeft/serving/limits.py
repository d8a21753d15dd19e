"""What a server takes on at once, and what it turns away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request

from edgepeft.serving.protocol import RequestError


@dataclass(frozen=True)
class Limits:
    """``body_bytes``, ``body_seconds`` (until it is here) and ``tokens`` bound one request, ``concurrent`` the
    answers under way, ``waiting`` the requests that wait for their turn; more are refused.
    """

    body_bytes: int = 1 << 20
    body_seconds: float = 30.0
    tokens: int = 1024
    concurrent: int = 4
    waiting: int = 64


class Turnstile:
    """Lets a number of requests in at once and a number wait; belongs to one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._slots = asyncio.Semaphore(limits.concurrent)
        self._most = limits.waiting
        self._waiting = 0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold one place. Raises RequestError (429) where too many wait already."""
        if self._slots.locked() and self._waiting >= self._most:
            raise RequestError(429, "too many requests are waiting; try again", code="overloaded")
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body of a request. Raises RequestError as soon as it is too long (413) or takes too long (408)."""
    most = limits.body_bytes
    too_long = RequestError(413, f"the body is longer than {most} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
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
