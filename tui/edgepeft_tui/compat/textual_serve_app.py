"""A check in front of every route of textual-serve.

Written for textual-serve 1.1. Overrides ``Server._make_app``, where the server makes its aiohttp application,
and ``handle_websocket``, which it routes to. An argument for middlewares would make this unnecessary.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from textual_serve.server import Server

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class CheckedServer(Server):  # type: ignore[misc]  # textual-serve ships no types
    """A server that asks ``check`` before it answers, and ``check_websocket`` before a websocket opens."""

    def check(self, request: web.Request) -> None:
        """Raise an HTTP error for a request that isn't to be answered."""

    def check_websocket(self, request: web.Request) -> None:
        """Raise an HTTP error for a websocket that isn't to be opened."""

    async def _make_app(self) -> web.Application:
        app: web.Application = await super()._make_app()

        @web.middleware  # type: ignore[untyped-decorator]  # aiohttp is not read by mypy
        async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.check(request)
            return await handler(request)

        app.middlewares.append(checked)
        return app

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Called by the server."""
        self.check_websocket(request)
        answer: web.WebSocketResponse = await super().handle_websocket(request)
        return answer
