"""Time limits on connections, and how many there may be.

uvicorn bounds how long a connection idles between two requests and nothing else: one that never sends anything,
or sends its headers or its body byte by byte, is kept for ever and counts against all others. Here each of
these waits has a limit, and where there is no more room the connection that has been waited for longest is
closed.
"""

from __future__ import annotations

import asyncio
import http
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgepeft.serving.limits import Limits
from edgepeft.serving.protocol import RequestError

_AFTER_THE_APPLICATION = 5.0
"""Seconds that the application has to answer a late body itself before the connection is closed."""


class Connection(H11Protocol):
    """One connection; ``limits`` are those of the server (see ``connections_within``)."""

    limits = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, if there is or can be made room for it."""
        super().connection_made(transport)
        self._awaited: Any = None
        self._waited_since: float | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._watch()
        if not self._make_room():
            self._refuse(503, "this server has no more room for connections; try again")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget its timers."""
        super().connection_lost(exc)
        self._waited_since = None
        for timer in (self._deadline, self._stalled):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Read on, and see what is waited for now."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request, or the rest of this one's body."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """The client reads slower than it is written to."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self.limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered in the same form as everything else."""
        self._refuse(400, msg)

    def _watch(self) -> None:
        """Count anew where something else is waited for than before."""
        state = self.conn.their_state
        if state is self._awaited:
            return
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        seconds = {
            h11.IDLE: self.limits.header_seconds,
            h11.SEND_BODY: self.limits.body_seconds + _AFTER_THE_APPLICATION,
        }.get(state)
        self._awaited, self._waited_since = state, None
        if seconds is not None:
            self._waited_since = self.loop.time()
            self._deadline = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        """Close a connection whose request did not come in time; one that idles between requests, without a
        response.
        """
        idle = self.cycle is not None and not self.conn.trailing_data[0]
        if idle and self.conn.their_state is h11.IDLE:
            self.timeout_keep_alive_handler()
        else:
            self._refuse(408, "the request did not come in time")

    def _make_room(self) -> bool:
        """Whether there is room, if need be by closing the one waited for longest: of this client, if it has too
        many.
        """
        others = [
            one for one in self.connections if isinstance(one, Connection) and one is not self
        ]
        own = [one for one in others if (one.client or ("",))[0] == (self.client or ("",))[0]]
        crowd = own if len(own) >= self.limits.per_client else others
        if len(own) < self.limits.per_client and len(others) < self.limits.connections:
            return True
        waited = [one for one in crowd if one._waited_since is not None]
        if not waited:
            return False
        min(waited, key=lambda one: one._waited_since or 0.0)._late()
        return True

    def _refuse(self, status: int, message: str) -> None:
        """Say why, where nothing has been said yet, and close."""
        if self.transport.is_closing():
            return
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(RequestError(status, message).body()).encode()
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


def connections_within(limits: Limits) -> type[Connection]:
    """The protocol for uvicorn, bound to a server's limits."""
    return type("BoundConnection", (Connection,), {"limits": limits})
