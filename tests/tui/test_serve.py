"""The wizard in a browser: on the loopback address alone, for the page it served itself alone."""

from __future__ import annotations

import asyncio
import socket

import pytest

pytest.importorskip("textual_serve")

from aiohttp.test_utils import TestClient, TestServer

from edgepeft_tui.serve import HOST, make_server
from tests.command import edgepeft

PORT = 8765


@pytest.mark.parametrize("path", ["/", "/ws", "/static/js/textual.js", "/download/x"])
def test_another_name_for_this_machine_reaches_nothing(path: str) -> None:
    assert asyncio.run(_status(path, {"Host": f"evil.example:{PORT}"})) == 403


def test_the_page_and_its_files_are_served_under_the_own_address() -> None:
    own = {"Host": f"{HOST}:{PORT}"}
    assert asyncio.run(_status("/", own)) == 200
    assert asyncio.run(_status("/static/js/textual.js", own)) == 200
    assert asyncio.run(_status("/download/x", own)) == 404


def test_a_websocket_of_another_page_is_refused() -> None:
    own = {"Host": f"{HOST}:{PORT}", "Origin": "http://evil.example"}
    assert asyncio.run(_status("/ws", own)) == 403


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        done = edgepeft("tui", "--serve", "--port", port)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"edgepeft: --port {port}: cannot be listened on (Address already in use); choose another"
    ]


async def _status(path: str, headers: dict[str, str]) -> int:
    server = make_server(None, PORT)
    assert server.host == HOST
    async with TestClient(TestServer(await server._make_app())) as client:
        status: int = (await client.get(path, headers=headers)).status
        return status
