"""textual-serve makes its application by the method that is overridden, and routes to the other."""

from __future__ import annotations

import asyncio
import inspect
import signal
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from edgepeft_tui.compat.textual_serve_app import CheckedServer


class Asking(CheckedServer):
    """Refuses what is marked so."""

    def check(self, request: web.Request) -> None:
        if "refused" in request.headers:
            raise web.HTTPGone

    def check_websocket(self, request: web.Request) -> None:
        raise web.HTTPConflict


def test_every_route_is_asked_and_a_websocket_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Any] = []

    def run_app(app: Any, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        served.append(app)

    monkeypatch.setattr(web, "run_app", run_app)
    Asking("true", host="127.0.0.1", port=8000).serve()
    (making,) = served
    assert inspect.iscoroutine(making)

    async def statuses() -> list[int]:
        async with TestClient(TestServer(await making)) as client:
            refused = [
                (await client.get(path, headers={"refused": "yes"})).status
                for path in ("/", "/static/js/textual.js", "/ws")
            ]
            return [*refused, (await client.get("/")).status, (await client.get("/ws")).status]

    assert asyncio.run(statuses()) == [410, 410, 410, 200, 409]
