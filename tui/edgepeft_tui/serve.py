"""The wizard in a browser, on the loopback interface alone."""

from __future__ import annotations

import shlex
from pathlib import Path

from aiohttp import web
from textual_serve.server import Server

from edgepeft_tui.asking import EDGEPEFT

HOST = "127.0.0.1"


class LoopbackServer(Server):  # type: ignore[misc]  # textual-serve ships no types
    """A server that only the page it served itself may talk to.

    Any web page may open a websocket to this machine; one that came from elsewhere would drive the terminal.
    The Host header is checked as well, against names that are made to resolve to this machine.
    """

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Refuse other origins, then do as the server does."""
        if request.headers.get("Origin") != self.public_url:
            raise web.HTTPForbidden(text="edgepeft tui answers only the page it served itself")
        if request.host != self.public_url.removeprefix("http://"):
            raise web.HTTPForbidden(text="edgepeft tui answers on the loopback address only")
        answer: web.WebSocketResponse = await super().handle_websocket(request)
        return answer


def make_server(recipe: Path | None, port: int) -> LoopbackServer:
    """The server of the wizard; every page that is opened runs one of its own."""
    arguments = [*EDGEPEFT, "tui", *([str(recipe.resolve())] if recipe is not None else [])]
    return LoopbackServer(shlex.join(arguments), host=HOST, port=port, title="edgepeft")


def serve_in_browser(recipe: Path | None, port: int) -> None:
    """Serve until Ctrl-C."""
    make_server(recipe, port).serve()
