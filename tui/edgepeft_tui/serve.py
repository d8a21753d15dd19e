"""The wizard in a browser, on the loopback interface alone."""

from __future__ import annotations

import shlex
import socket
from pathlib import Path

from aiohttp import web

from edgepeft.errors import EdgepeftError
from edgepeft_tui.asking import EDGEPEFT
from edgepeft_tui.compat.textual_serve_app import CheckedServer

HOST = "127.0.0.1"


class LoopbackServer(CheckedServer):
    """A server that only the page it served itself may talk to.

    Any web page may open a websocket to this machine; one that came from elsewhere would drive the terminal.
    Every request must name this address as its host, so that a name which somebody makes resolve to this machine
    reaches neither the page, its files, its downloads, nor the websocket.
    """

    def check(self, request: web.Request) -> None:
        """Refuse other hosts."""
        if request.host != self.public_url.removeprefix("http://"):
            raise web.HTTPForbidden(text="edgepeft tui answers on the loopback address only")

    def check_websocket(self, request: web.Request) -> None:
        """Refuse other origins."""
        if request.headers.get("Origin") != self.public_url:
            raise web.HTTPForbidden(text="edgepeft tui answers only the page it served itself")


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
