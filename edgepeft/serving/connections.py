"""Time limits on connections, and how many there may be.

uvicorn bounds how long a connection idles between two requests and nothing else: one that never sends anything,
or sends its headers or its body byte by byte, is kept for ever and counts against all others. Here each of
these waits has a limit, and where there is no more room the connection that has been waited for longest is
closed.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11

from edgepeft.compat.uvicorn_connection import HttpConnection
from edgepeft.serving.limits import Limits
from edgepeft.serving.refusals import RequestError

_AFTER_THE_APPLICATION = 5.0
"""Seconds that the application has to answer a late body itself before the connection is closed."""


class Connection(HttpConnection):
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

    def answered(self) -> None:
        """Wait for the next request, or the rest of this one's body."""
        self._watch()

    def pause_writing(self) -> None:
        """The client reads slower than it is written to."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.later(self.limits.write_seconds, self.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def malformed(self, message: str) -> None:
        """What is no HTTP is answered in the same form as everything else."""
        self._refuse(400, message)

    def _watch(self) -> None:
        """Count anew where something else is waited for than before."""
        state = self.client_state
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
            self._waited_since = self.now()
            self._deadline = self.later(seconds, self._late)

    def _late(self) -> None:
        """Close a connection whose request did not come in time; one that idles between requests, without a
        response.
        """
        if self.idles_between_requests:
            self.end_idling()
        else:
            self._refuse(408, "the request did not come in time")

    def _make_room(self) -> bool:
        """Whether there is room, if need be by closing the one waited for longest: of this client, if it has too
        many.
        """
        others = [one for one in self.others() if isinstance(one, Connection)]
        own = [one for one in others if one.address == self.address]
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
        self.end_with(status, json.dumps(RequestError(status, message).body()).encode())


def connections_within(limits: Limits) -> type[Connection]:
    """The protocol for uvicorn, bound to a server's limits."""
    return type("BoundConnection", (Connection,), {"limits": limits})
