"""The wizard in a browser, on the loopback interface alone."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web
from textual_serve.server import Server

from edgepeft.errors import EdgepeftError
from edgepeft_tui.asking import EDGEPEFT

HOST = "127.0.0.1"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LoopbackServer(Server):  # type: ignore[misc]  # textual-serve ships no types
    """A server that only the page it served itself may talk to.

    Any web page may open a websocket to this machine; one that came from elsewhere would drive the terminal.
    Every request must name this address as its host, so that a name which somebody makes resolve to this machine
    reaches neither the page, its files, its downloads, nor the websocket.
    """

    async def _make_app(self) -> web.Application:
        """The server's routes behind the check of the host."""
        app: web.Application = await super()._make_app()
        host = self.public_url.removeprefix("http://")

        @web.middleware  # type: ignore[untyped-decorator]  # aiohttp is not read by mypy
        async def for_this_host(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.host != host:
                raise web.HTTPForbidden(text="edgepeft tui answers on the loopback address only")
            return await handler(request)

        app.middlewares.append(for_this_host)
        return app

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Refuse other origins, then do as the server does."""
        if request.headers.get("Origin") != self.public_url:
            raise web.HTTPForbidden(text="edgepeft tui answers only the page it served itself")
        answer: web.WebSocketResponse = await super().handle_websocket(request)
        return answer


def make_server(recipe: Path | None, port: int) -> LoopbackServer:
    """The server of the wizard; every page that is opened runs one of its own."""
    arguments = [*EDGEPEFT, "tui", *([str(recipe.resolve())] if recipe is not None else [])]
    return LoopbackServer(shlex.join(arguments), host=HOST, port=port, title="edgepeft")


def serve_in_browser(recipe: Path | None, port: int) -> None:
    """Serve until Ctrl-C. Raises EdgepeftError where the port is taken."""
    refuse_taken(port)
    make_server(recipe, port).serve()


def refuse_taken(port: int) -> None:
    """Raise EdgepeftError where another program listens on ``port``, before anything is started."""
    with socket.socket() as probe:
        # As the server itself does: a port whose last user has just gone is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise EdgepeftError(
                f"--port {port}: cannot be listened on ({error.strerror}); choose another"
            ) from None
