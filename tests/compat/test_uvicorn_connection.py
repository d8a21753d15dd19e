"""uvicorn's own connection calls what is overridden, and has what is asked of it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import h11
import uvicorn

from edgepeft.compat.uvicorn_connection import HttpConnection

GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
Noted = list[tuple[str, Any]]


async def application(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    while (await receive())["type"] == "http.request":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"well"})
        return


def serve(*asks: bytes, then: Any = None) -> tuple[list[bytes], Noted]:
    """What a server answers to each client, and what its connections were called for.

    ``then`` is called with each connection once all have asked.
    """
    noted: Noted = []
    made: list[Any] = []

    class Noting(HttpConnection):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            made.append(self)

        def answered(self) -> None:
            noted.append(("answered", self.client_state))

        def malformed(self, message: str) -> None:
            noted.append(("malformed", self.client_state))
            super().malformed(message)

    async def run() -> list[bytes]:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(application, http=Noting, log_level="critical", lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        answers, writers = [], []
        for ask in asks:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(ask)
            answers.append(await reader.read(65536) if then is None or ask == GET else b"")
            writers.append((reader, writer))
        while len(made) < len(asks):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        for connection in made if then is not None else ():
            then(connection)
        if then is not None:
            answers = [await reader.read(65536) for reader, _ in writers]
        for _, writer in writers:
            writer.close()
        server.should_exit = True
        await serving
        return answers

    return asyncio.run(run()), noted


def test_it_is_told_of_an_answer_and_of_what_is_no_http() -> None:
    (good, bad), noted = serve(GET, b"no http at all\r\n\r\n")
    assert good.startswith(b"HTTP/1.1 200")
    assert bad.startswith(b"HTTP/1.1 400")
    assert [what for what, _ in noted] == ["answered", "malformed"]
    assert noted[0][1] in (h11.DONE, h11.IDLE)


def test_an_idle_connection_is_told_from_one_that_has_begun_to_ask() -> None:
    begun = b"GET / HTTP/1.1\r\nHost:"
    seen: list[tuple[bool, Any, int, str]] = []

    def look(connection: Any) -> None:
        state = connection.client_state
        seen.append(
            (
                connection.idles_between_requests,
                state,
                len(list(connection.others())),
                connection.address,
            )
        )

    def look_and_end(connection: Any) -> None:
        look(connection)
        if connection.idles_between_requests:
            connection.end_idling()
        else:
            connection.end_with(408, b'{"late": true}')

    answers, _ = serve(GET, begun, then=look_and_end)
    assert [idle for idle, *_ in seen] == [True, False]
    assert {state for _, state, *_ in seen} == {h11.IDLE}
    assert seen[0][2] == 1
    assert {address for *_, address in seen} == {"127.0.0.1"}
    assert answers[0] == b""
    assert answers[1].startswith(b"HTTP/1.1 408")
    assert answers[1].endswith(b'{"late": true}')


def test_a_call_comes_later_and_a_connection_is_cut() -> None:
    def cut(connection: Any) -> None:
        assert connection.now() > 0
        connection.later(0.01, connection.abort)

    answers, _ = serve(b"GET / HTTP/1.1\r\n", then=cut)
    assert answers == [b""]


def test_an_application_that_waits_for_a_body_is_told_that_the_client_is_gone() -> None:
    def end(connection: Any) -> None:
        assert connection.client_state is h11.SEND_BODY
        cycle = connection.cycle
        connection.end_with(408, b"{}")
        assert cycle.disconnected
        assert cycle.message_event.is_set()
        assert connection not in connection.connections

    ask = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    serve(ask, then=end)
