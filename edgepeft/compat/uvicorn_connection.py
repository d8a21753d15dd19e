"""A connection of uvicorn's whose waits can be timed.

Written for uvicorn 0.54. Derives from ``uvicorn.protocols.http.h11_impl.H11Protocol``, which
``uvicorn.Config(http=…)`` takes, and uses its ``conn``, ``cycle``, ``transport``, ``loop``, ``client`` and
``connections``, the attributes of its ``RequestResponseCycle``, ``on_response_complete``, ``send_400_response``
and ``timeout_keep_alive_handler``. uvicorn limits the wait between two requests alone; limits of its own for
headers, bodies and the number of connections would make this unnecessary.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Iterable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class HttpConnection(H11Protocol):
    """One connection, and what can be asked of it."""

    def answered(self) -> None:
        """A response is complete."""

    def malformed(self, message: str) -> None:
        """What came is no HTTP: answer it, and close."""
        super().send_400_response(message)

    @property
    def client_state(self) -> Any:
        """What the client is to send next, a state of h11's: IDLE is a request, SEND_BODY the rest of one."""
        return self.conn.their_state

    @property
    def address(self) -> str:
        """The client's address."""
        return (self.client or ("",))[0]

    @property
    def idles_between_requests(self) -> bool:
        """Whether a request was answered and nothing has come of a next one."""
        answered = self.cycle is not None and not self.conn.trailing_data[0]
        return answered and self.client_state is h11.IDLE

    def others(self) -> Iterable[Any]:
        """The server's connections but this one."""
        return [one for one in self.connections if one is not self]

    def now(self) -> float:
        """Seconds on the clock of ``later``."""
        return self.loop.time()

    def later(self, seconds: float, call: Any) -> asyncio.TimerHandle:
        """Have ``call`` called in some seconds, unless the handle is cancelled before."""
        return self.loop.call_later(seconds, call)

    def end_idling(self) -> None:
        """Close without a response."""
        self.timeout_keep_alive_handler()

    def abort(self) -> None:
        """Close at once, whatever is still to be written."""
        self.transport.abort()

    def end_with(self, status: int, body: bytes) -> None:
        """Answer with JSON, where nothing has been answered yet, and close."""
        if self.transport.is_closing():
            return
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            reason = http.HTTPStatus(status).phrase.encode()
            response = h11.Response(status_code=status, headers=headers, reason=reason)
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None and not self.cycle.response_complete:
            # Whoever waits for the rest of the body is told that it won't come.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.connections.discard(self)
        self.transport.close()

    def on_response_complete(self) -> None:
        """Called by uvicorn."""
        super().on_response_complete()
        self.answered()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn."""
        self.malformed(msg)
