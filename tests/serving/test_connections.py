"""Clients that say nothing, say it slowly, or never listen: none keeps the others out."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from edgepeft.serving.connections import connections_within
from edgepeft.serving.limits import Limits
from tests.hot_swap.test_integrity import flip
from tests.serving.test_serve import JSON, Server, served, serving

SECONDS = 2
"""The time that a client has to send a request here."""


@pytest.fixture(scope="module")
def server(filled: Path) -> Iterator[Server]:
    with served(filled, "--request-seconds", SECONDS, "--max-tokens", 48) as running:
        yield running


def connect(server: Server) -> socket.socket:
    host, _, port = server.host.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def closed_after(connection: socket.socket, seconds: float) -> bytes:
    """What comes until the server closes, which it must within so long."""
    connection.settimeout(seconds)
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(4096):
            received += data
    return received


def error_of(response: bytes) -> dict[str, Any]:
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"application/json" in head
    # Another response may follow where more was sent.
    error: dict[str, Any] = json.JSONDecoder().raw_decode(body.decode())[0]["error"]
    return error


def test_silent_connections_keep_nobody_out(server: Server) -> None:
    """More of them than there may be at all: new ones are answered at once, and these are gone soon."""
    silent = [connect(server) for _ in range(300)]
    started = time.monotonic()
    assert server.request("GET", "/health")[0] == 200
    assert server.answer("one", "hi", max_tokens=2)
    assert time.monotonic() - started < SECONDS + 3
    received = [closed_after(one, SECONDS + 5) for one in silent]
    assert all(b"408" in one.partition(b"\r\n")[0] for one in received if one)
    assert error_of(next(one for one in received if one))["message"].startswith("the request did")
    for one in silent:
        one.close()


@pytest.mark.parametrize(
    ("start", "trickle"),
    [
        (b"", b"G"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ", b"x"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n", b"x"),
        (b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n", b"x"),
        (
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 9999\r\n\r\n",
            b" ",
        ),
        (
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\n \r\n",
        ),
    ],
    ids=["method", "header", "body of a GET", "body for nobody", "body", "chunks"],
)
def test_a_request_byte_by_byte_has_its_time(server: Server, start: bytes, trickle: bytes) -> None:
    connection = connect(server)
    connection.sendall(start)
    began = time.monotonic()
    # The rest of a body that was answered already is waited for five seconds longer.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while time.monotonic() - began < SECONDS + 12:
            connection.sendall(trickle)
            time.sleep(0.3)
    assert time.monotonic() - began < SECONDS + 10
    connection.close()


def test_a_body_that_does_not_come_is_a_408(server: Server) -> None:
    connection = connect(server)
    connection.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    response = closed_after(connection, SECONDS + 8)
    assert response.startswith(b"HTTP/1.1 408")
    assert error_of(response)["message"] == "the body did not come in time"


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_http_is_answered_in_the_same_form(server: Server, request_: bytes) -> None:
    connection = connect(server)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(request_)
    response = closed_after(connection, SECONDS + 5)
    assert response == b"" or response.startswith((b"HTTP/1.1 400", b"HTTP/1.1 408"))
    if response:
        assert error_of(response)["type"] == "invalid_request_error"


def test_pipelined_and_kept_connections_work(server: Server) -> None:
    connection = connect(server)
    for _ in range(3):
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
        received = b""
        while received.count(b'{"status":"ok"}') < 2:
            received += connection.recv(4096)
    started = time.monotonic()
    # An idle one is closed without a word, by the time a new request would have to be there.
    assert closed_after(connection, 10) == b""
    assert time.monotonic() - started < SECONDS + 2
    connection.close()


def test_an_answer_that_takes_too_long_is_given_up(filled: Path) -> None:
    running = serving(filled, "--max-tokens", 200, "--answer-seconds", 0.01, "--concurrent", 1)
    try:
        prompt = "Tell me of many things. " * 8
        # More turns than there are places: each is free again.
        for _ in range(3):
            status, text = running.chat("one", prompt, max_tokens=200)
            assert (status, json.loads(text)["error"]["code"]) == (503, "timeout")
            status, text = running.chat("one", prompt, stream=True)
            events = [json.loads(line[6:]) for line in text.split("\n\n") if line]
            assert status == 200
            assert events[-1]["error"]["code"] == "timeout"
    finally:
        running.process.terminate()
        running.process.wait(timeout=30)


def test_streams_that_are_dropped_leak_nothing(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    server.answer("two", "hi", max_tokens=2)
    body = json.dumps(
        {"model": "two", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    )
    head = "\r\n".join(f"{name}: {value}" for name, value in JSON.items())
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n{head}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()

    def drop(count: int) -> None:
        for number in range(count):
            connection = connect(server)
            connection.sendall(request)
            if number % 3:
                connection.recv(64)
            connection.close()

    drop(10)
    assert server.answer("two", "hi", max_tokens=2)
    before = process.num_fds(), process.num_threads()
    drop(60)
    assert server.answer("two", "hi", max_tokens=2)
    deadline = time.monotonic() + 20
    while process.num_fds() > before[0] + 1 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert process.num_fds() <= before[0] + 1
    assert process.num_threads() <= before[1] + 6


@pytest.mark.parametrize("way", [("--concurrent", 2), ("--batch", 2)])
def test_a_changed_adapter_is_the_servers_fault(
    filled: Path, tmp_path: Path, way: tuple[str, int]
) -> None:
    folder = Path(shutil.copytree(filled, tmp_path / "bundle"))
    flip(folder)
    running = serving(folder, *way)
    try:
        status, text = running.chat("one", "hi", max_tokens=2)
        assert (status, json.loads(text)["error"]["code"]) == (500, "damaged")
        # Where it lies is told to whoever serves, not to whoever asks.
        assert str(tmp_path) not in text
        assert running.answer("two", "hi", max_tokens=2)
        flip(folder, "two")
        assert running.chat("two", "hi", max_tokens=2)[0] in (500, 503)
    finally:
        running.process.terminate()
        _, errors = running.process.communicate(timeout=30)
    assert f"{folder}/adapters/one/adapter.onnx_adapter: changed since it was built" in errors
    assert "Traceback" not in errors


# The protocol alone, under an application of a few lines and limits of fractions of a second.


@contextlib.contextmanager
def listening(app: Any, limits: Limits) -> Iterator[int]:
    """An application served by the protocol in a thread; yields its port."""
    place = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        http=connections_within(limits),
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_level="error",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: server.run(sockets=[place]), daemon=True)
    thread.start()
    try:
        yield place.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        place.close()


async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends without end, until the connection is gone."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(100_000):
        await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        if scope["state"].get("gone"):
            break


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    import asyncio

    await asyncio.sleep(1.5)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


def ask(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection


def test_a_client_that_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(endless, Limits(write_seconds=0.5)) as port:
        connection = ask(port)
        started = time.monotonic()
        poll = psutil.Process()
        # It reads nothing for a while, and then finds the connection reset.
        while time.monotonic() - started < 10:
            ends = [
                one for one in poll.net_connections("tcp") if one.laddr and one.laddr.port == port
            ]
            if not [one for one in ends if one.status == "ESTABLISHED" and one.raddr]:
                break
            time.sleep(0.1)
        assert time.monotonic() - started < 9
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(1 << 20):
                pass
        connection.close()


def test_the_connection_waited_for_longest_is_closed_to_make_room() -> None:
    """Those that wait for their answer stay; where all do, a new one is refused."""
    limits = Limits(connections=4, per_client=4, header_seconds=30)
    with listening(slow, limits) as port:
        first = socket.create_connection(("127.0.0.1", port), timeout=20)
        time.sleep(0.2)
        asking = [ask(port) for _ in range(3)]
        time.sleep(0.2)
        asking.append(ask(port))
        assert closed_after(first, 5).startswith(b"HTTP/1.1 408")
        time.sleep(0.2)
        refused = closed_after(ask(port), 5)
        assert refused.startswith(b"HTTP/1.1 503")
        assert error_of(refused)["type"] == "server_error"
        for one in asking:
            assert b"done" in one.recv(4096) + one.recv(4096)
