"""textual-serve makes its application by the method that is overridden, and routes to the other."""

from __future__ import annotations

import asyncio
import inspect

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from textual_serve.server import Server

from edgepeft_tui.compat.textual_serve_app import CheckedServer


class Asking(CheckedServer):
    """Refuses what is marked so."""

    def check(self, request: web.Request) -> None:
        if "refused" in request.headers:
            raise web.HTTPGone

    def check_websocket(self, request: web.Request) -> None:
        raise web.HTTPConflict


async def status(path: str, **headers: str) -> int:
    app = await Asking("true", host="127.0.0.1", port=8000)._make_app()
    async with TestClient(TestServer(app)) as client:
        return (await client.get(path, headers=headers)).status


def test_the_server_makes_its_application_by_that_method() -> None:
    assert inspect.iscoroutinefunction(Server._make_app)
    assert "self._make_app()" in inspect.getsource(Server.serve)


def test_every_route_is_asked_and_a_websocket_once_more() -> None:
    assert asyncio.run(status("/")) == 200
    for path in ("/", "/static/js/textual.js", "/ws"):
        assert asyncio.run(status(path, refused="yes")) == 410
    assert asyncio.run(status("/ws")) == 409
