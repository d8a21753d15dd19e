"""The server as clients meet it: a process of its own on loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edgepeft.hot_swap.store import add_adapter
from edgepeft.runtime import Bundle, Runtime
from tests.command import edgepeft, start
from tests.hot_swap.chain import ADAPTERS
from tests.stages import Find

LIMITS = ("--max-tokens", 48, "--max-body-bytes", 4000, "--waiting", 100)
JSON = {"Content-Type": "application/json"}
WAYS = {"one by one": ("--concurrent", 3), "batch": ("--batch", 3)}
"""How answers are made: each by itself, or together."""


class Server:
    """A running ``edgepeft serve`` and a plain HTTP client for it."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.host = address.removeprefix("http://").removesuffix("/v1")

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        """Status and text of one request on a connection of its own."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        data = json.dumps(body) if isinstance(body, dict) else body
        kind = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, data, {**kind, **(headers or {})})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text

    def chat(self, model: str, prompt: str, **more: Any) -> tuple[int, str]:
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], **more}
        return self.request("POST", "/v1/chat/completions", body)

    def answer(self, model: str, prompt: str, **more: Any) -> str:
        status, text = self.chat(model, prompt, **more)
        assert status == 200, text
        content: str = json.loads(text)["choices"][0]["message"]["content"]
        return content

    def streamed(self, model: str, prompt: str, **more: Any) -> tuple[str, list[dict[str, Any]]]:
        status, text = self.chat(model, prompt, stream=True, **more)
        assert status == 200, text
        lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
        assert lines.pop() == "[DONE]"
        events = [json.loads(line) for line in lines]
        deltas = [event["choices"][0]["delta"] for event in events if event["choices"]]
        return "".join(delta.get("content", "") for delta in deltas), events


def serving(bundle: Path, *options: object) -> Server:
    process = start("serve", bundle, "--port", 0, "--threads", 1, *options)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    if not address:
        _, errors = process.communicate(timeout=30)
        pytest.fail(errors)
    return Server(process, address)


@contextlib.contextmanager
def served(bundle: Path, *options: object) -> Iterator[Server]:
    """A server while the context lasts."""
    running = serving(bundle, *options)
    yield running
    running.process.terminate()
    running.process.wait(timeout=30)


@pytest.fixture(scope="module", params=WAYS)
def server(filled: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    with served(filled, *LIMITS, *WAYS[request.param]) as running:
        yield running


@pytest.fixture(scope="module")
def alone(filled: Path) -> dict[tuple[str, str], str]:
    """What the base and each adapter answers when nothing else is asked."""
    runtime = Runtime(filled, threads=1)
    return {
        (name, prompt): runtime.complete(prompt, adapter=name, max_new_tokens=48).text
        for name in ("base", *ADAPTERS)
        for prompt in PROMPTS
    }


PROMPTS = [f"What is the colour of {thing}?" for thing in ("the sky", "grass", "a plum")]


def test_models_are_the_adapters(server: Server) -> None:
    status, text = server.request("GET", "/v1/models")
    assert status == 200
    assert [model["id"] for model in json.loads(text)["data"]] == ["base", *sorted(ADAPTERS)]
    assert json.loads(server.request("GET", "/v1/models/two")[1])["object"] == "model"
    assert server.request("GET", "/v1/models/three")[0] == 404
    assert server.request("GET", "/health")[0] == 200


def test_many_clients_each_get_their_own_adapters_answer(
    server: Server, alone: dict[tuple[str, str], str]
) -> None:
    """48 requests at once, adapters mixed, streamed and not: every answer is that adapter's alone."""
    assert len({alone[name, PROMPTS[0]] for name in ("base", *ADAPTERS)}) == 4
    asked = [key for key in alone for _ in range(4)]

    def ask(index: int) -> str:
        name, prompt = asked[index]
        if index % 2:
            return server.streamed(name, prompt)[0]
        return server.answer(name, prompt)

    with ThreadPoolExecutor(len(asked)) as clients:
        answers = list(clients.map(ask, range(len(asked))))
    assert answers == [alone[key] for key in asked]


def test_a_stream_is_in_pieces_and_says_how_it_ended(server: Server) -> None:
    whole = json.loads(server.chat("one", PROMPTS[0], max_tokens=40)[1])
    text, events = server.streamed(
        "one", PROMPTS[0], max_tokens=40, stream_options={"include_usage": True}
    )
    assert text == whole["choices"][0]["message"]["content"]
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert events[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert events[-1]["usage"] == whole["usage"]


def test_bad_requests_are_turned_away(server: Server) -> None:
    status, text = server.chat("four", "hi")
    assert status == 404
    assert json.loads(text)["error"]["code"] == "model_not_found"
    for more, wanted in (
        ({"max_tokens": 49}, "more than this server's 48"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"n": 2, "stream": True}, "n: "),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": "long " * 600}]}, "no room for an answer"),
    ):
        status, text = server.chat("one", "hi", **more)
        assert status == 400, text
        assert wanted in json.loads(text)["error"]["message"]
    path = "/v1/chat/completions"
    assert server.request("POST", path, "{")[0] == 400
    assert server.request("POST", path, "x" * 5000)[0] == 413
    assert server.request("GET", path)[0] == 405
    assert server.request("GET", "/v1/nothing")[0] == 404
    # As from a page whose name was pointed at this machine.
    assert server.request("GET", "/v1/models", headers={"Host": "example.org"})[0] == 400
    assert server.answer("one", "hi") == server.answer("one", "hi")


@pytest.mark.parametrize("way", ["--concurrent", "--batch"])
def test_clients_who_leave_give_their_turn_back(filled: Path, way: str) -> None:
    """At once, or in the middle of a stream; more of them than answers may be under way."""
    running = serving(filled, way, 2, "--max-tokens", 200)
    try:
        for turn in range(8):
            connection = http.client.HTTPConnection(running.host, timeout=60)
            body = {"model": "one", "messages": [{"role": "user", "content": "hi"}]}
            stream = json.dumps({**body, "stream": turn % 4 != 3})
            connection.request("POST", "/v1/chat/completions", stream, JSON)
            if turn % 2:
                connection.sock.settimeout(10)
                connection.sock.recv(64)
            connection.sock.close()
            connection.close()
        assert running.answer("two", "hi")
    finally:
        running.process.terminate()
        _, errors = running.process.communicate(timeout=30)
    assert "Traceback" not in errors, errors


@pytest.mark.parametrize("way", [("--concurrent", 1), ("--batch", 2)])
def test_too_many_waiting_are_refused(filled: Path, way: tuple[str, int]) -> None:
    running = serving(filled, *way, "--waiting", 0, "--max-tokens", 200)
    try:
        with ThreadPoolExecutor(12) as clients:
            found = list(clients.map(lambda _: running.chat("one", "hi"), range(12)))
        statuses = [status for status, _ in found]
        assert set(statuses) == {200, 429}
        refused = json.loads(next(text for status, text in found if status == 429))
        assert refused["error"]["code"] == "overloaded"
    finally:
        running.process.terminate()
        running.process.wait(timeout=30)


@pytest.mark.parametrize("way", WAYS)
def test_adapters_come_and_go_while_it_serves(
    built: Find, own: Path, alone: dict[tuple[str, str], str], way: str
) -> None:
    """Each is served from when it is there; answers of others stay what they are."""
    bundle = Bundle.open(own)
    add_adapter(bundle, "one", built("llama", "adapters") / "one")
    running = serving(own, "--max-tokens", 48, *WAYS[way])
    answers: list[str] = []
    over = threading.Event()

    def keep_asking() -> None:
        while not over.is_set():
            answers.append(running.answer("one", PROMPTS[0]))

    client = threading.Thread(target=keep_asking)
    client.start()
    try:
        for name in ("two", "few"):
            assert running.chat(name, PROMPTS[0])[0] == 404
            add_adapter(bundle, name, built("llama", "adapters") / name)
            assert running.answer(name, PROMPTS[0]) == alone[name, PROMPTS[0]]
        assert edgepeft("adapters", "remove", own, "two").returncode == 0
        assert running.chat("two", PROMPTS[0])[0] == 404
        # Another adapter under a name that was served before is not taken for the old one.
        add_adapter(bundle, "two", built("llama", "adapters") / "few")
        assert running.answer("two", PROMPTS[0]) == alone["few", PROMPTS[0]]
    finally:
        over.set()
        client.join()
        running.process.terminate()
        running.process.wait(timeout=30)
    assert len(answers) > 2
    assert set(answers) == {alone["one", PROMPTS[0]]}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_shuts_down_cleanly_and_lets_answers_finish(
    filled: Path, alone: dict[tuple[str, str], str], number: int, way: str
) -> None:
    running = serving(filled, "--max-tokens", 48, *WAYS[way])
    connection = http.client.HTTPConnection(running.host, timeout=60)
    body = {"model": "one", "messages": [{"role": "user", "content": PROMPTS[0]}], "stream": True}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), JSON)
    response = connection.getresponse()
    running.process.send_signal(number)
    text = response.read().decode()
    assert text.endswith("data: [DONE]\n\n")
    connection.close()
    started = time.monotonic()
    _, errors = running.process.communicate(timeout=30)
    assert time.monotonic() - started < 20
    assert running.process.returncode == 0, errors
    assert "Traceback" not in errors


def test_a_batch_has_its_own_number_and_the_cpu(filled: Path) -> None:
    for options, wanted in (
        (("--batch", 2, "--concurrent", 2), "--batch is the number"),
        (("--batch", 2, "--provider", "cuda"), "batches run on the CPU alone"),
    ):
        done = edgepeft("serve", filled, *options)
        assert done.returncode == 2
        assert wanted in done.stderr


def test_a_taken_port_is_one_line(server: Server, filled: Path) -> None:
    done = edgepeft("serve", filled, "--port", server.host.rpartition(":")[2])
    assert done.returncode == 1
    assert "choose another --port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_merged_bundle_is_one_model(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    running = serving(folder)
    try:
        names = [
            model["id"] for model in json.loads(running.request("GET", "/v1/models")[1])["data"]
        ]
        assert names == ["cpu-int4"]
        assert running.answer("cpu-int4", "hi", max_tokens=4)
    finally:
        running.process.terminate()
        running.process.wait(timeout=30)
