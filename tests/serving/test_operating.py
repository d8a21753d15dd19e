"""What whoever runs a server asks of it: counts for Prometheus, and that only those who know the key may ask."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from edgepeft.errors import InputError
from edgepeft.runtime import Runtime
from edgepeft.serving.api_key import ApiKey
from edgepeft.serving.app import make_app
from edgepeft.serving.generation import GenerationEndpoint
from edgepeft.serving.limits import Limits
from tests.command import edgepeft
from tests.serving.test_serve import JSON, WAYS, Server, served, serving

openai = pytest.importorskip("openai")

MODEL = "cpu-int4"
SECRET = "sk-of-this-test-57"
ASKED: list[Any] = [{"role": "user", "content": "What is the colour of grass?"}]
CHAT, RAW = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module", params=WAYS)
def server(tiny_bundle: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    with served(tiny_bundle, "--max-tokens", 64, *WAYS[request.param]) as running:
        yield running


def counted(server: Server, headers: dict[str, str] | None = None) -> dict[Any, float]:
    """Every sample at /metrics, by its name and its labels' values."""
    status, text = server.request("GET", "/metrics", headers=headers)
    assert status == 200, text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def gained(before: dict[Any, float], after: dict[Any, float], *name: str) -> float:
    return after.get(name, 0.0) - before.get(name, 0.0)


def test_requests_tokens_and_first_tokens_are_counted(server: Server, tiny_bundle: Path) -> None:
    prompter = Runtime(tiny_bundle, threads=1).prompter
    prompt, raw = len(prompter.prompt(ASKED)), len(prompter.text("x"))
    client = openai.OpenAI(base_url=f"http://{server.host}/v1", api_key="none", max_retries=0)
    before = counted(server)
    chat: dict[str, Any] = {"model": MODEL, "messages": ASKED, "max_tokens": 5}
    client.chat.completions.create(**chat)
    list(client.chat.completions.create(**chat, stream=True))
    client.completions.create(model=MODEL, prompt="x", max_tokens=3, n=2, temperature=1.0, seed=1)
    for _ in range(2):
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(**{**chat, "n": 99})
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=MODEL, input="a")
    for path in ("/v1/models", f"/v1/models/{MODEL}", "/health", "/nothing", "/v1/modelsx"):
        server.request("GET", path)
    after = counted(server)
    requests = "edgepeft_requests_total"
    assert gained(before, after, requests, CHAT, "200") == 2
    assert gained(before, after, requests, CHAT, "400") == 2
    assert gained(before, after, requests, RAW, "200") == 1
    assert gained(before, after, requests, "/v1/embeddings", "404") == 1
    assert gained(before, after, requests, "/v1/models", "200") == 2
    assert gained(before, after, requests, "other", "404") == 2
    assert gained(before, after, requests, "/metrics", "200") == 1
    assert gained(before, after, "edgepeft_prompt_tokens_total") == 2 * prompt + 2 * raw
    assert gained(before, after, "edgepeft_generated_tokens_total") == 2 * 5 + 2 * 3
    first = "edgepeft_time_to_first_token_seconds"
    assert gained(before, after, f"{first}_count") == 3
    assert gained(before, after, f"{first}_bucket", "+Inf") == 3
    assert 0 < gained(before, after, f"{first}_sum") < 60
    # The request that asks for the counts is under way itself.
    assert after[("edgepeft_requests_in_flight",)] == 1


def test_clients_who_leave_are_no_longer_in_flight(server: Server) -> None:
    for _ in range(4):
        connection = http.client.HTTPConnection(server.host, timeout=60)
        body = {"model": MODEL, "messages": ASKED, "max_tokens": 64, "stream": True}
        connection.request("POST", CHAT, json.dumps(body), JSON)
        connection.sock.close()
        connection.close()
    assert server.answer(MODEL, "hi", max_tokens=1) is not None
    for _ in range(100):
        if (left := counted(server)[("edgepeft_requests_in_flight",)]) == 1:
            return
    pytest.fail(f"{left} requests are counted as under way")


# The key.


@pytest.fixture(scope="module", params=["file", "environment"])
def locked(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Server]:
    """A server with a key; nothing that it prints may hold it."""
    with pytest.MonkeyPatch.context() as patch:
        options: tuple[object, ...] = ()
        if request.param == "file":
            path = tmp_path_factory.mktemp("key") / "key"
            path.write_text(SECRET + "\n")
            options = ("--api-key-file", path)
            # The file is the one that counts.
            patch.setenv("EDGEPEFT_API_KEY", "another")
        else:
            patch.setenv("EDGEPEFT_API_KEY", SECRET)
        running = serving(tiny_bundle, "--max-tokens", 8, *options)
    yield running
    running.process.terminate()
    out, errors = running.process.communicate(timeout=30)
    assert SECRET not in out + errors
    assert "Traceback" not in errors


def test_openais_client_asks_with_the_key(locked: Server) -> None:
    client = openai.OpenAI(base_url=f"http://{locked.host}/v1", api_key=SECRET, max_retries=0)
    assert client.chat.completions.create(model=MODEL, messages=ASKED, max_tokens=2).choices
    stranger = client.with_options(api_key="sk-wrong")
    with pytest.raises(openai.AuthenticationError) as caught:
        stranger.chat.completions.create(model=MODEL, messages=ASKED)
    error = caught.value.body
    assert (error["code"], error["type"]) == ("invalid_api_key", "invalid_request_error")
    assert error["message"] == "the API key is not this server's"
    assert caught.value.response.headers["www-authenticate"] == "Bearer"
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        SECRET,
        f"Basic {SECRET}",
        f"Bearer {SECRET}x",
        f"Bearer {SECRET[:-1]}",
        f"Bearer {SECRET.upper()}",
        "Bearer caf\xe9",
        "Bearer " + "x" * 5000,
    ],
)
def test_whoever_does_not_know_it_gets_nothing(locked: Server, sent: str | None) -> None:
    headers = {} if sent is None else {"Authorization": sent}
    body = json.dumps({"model": MODEL, "messages": ASKED})
    for method, path, data in (
        ("POST", CHAT, body),
        ("GET", "/v1/models", None),
        ("GET", "/metrics", None),
        ("GET", "/nothing", None),
    ):
        status, text = locked.request(method, path, data, headers)
        assert status == 401
        assert set(json.loads(text)["error"]) == {"message", "type", "param", "code"}
    assert locked.request("GET", "/health", headers=headers)[0] == 200
    right = {"Authorization": f"bearer {SECRET}"}
    assert locked.request("POST", CHAT, body, right)[0] == 200
    assert counted(locked, right)[("edgepeft_requests_total", CHAT, "401")] >= 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("two words", "one line of printable ASCII"),
        ("one\ntwo", "one line of printable ASCII"),
        ("schlüssel", "one line of printable ASCII"),
        ("x" * 5000, "longer than 4096 bytes"),
    ],
)
def test_what_is_no_key_is_told_when_it_starts(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        ApiKey.find(path, {})
    assert len(str(caught.value)) < 300


def test_where_a_key_is_looked_for(tmp_path: Path) -> None:
    assert ApiKey.find(None, {}) is None
    with pytest.raises(InputError, match="EDGEPEFT_API_KEY: is empty"):
        ApiKey.find(None, {"EDGEPEFT_API_KEY": ""})
    with pytest.raises(InputError, match="cannot be read"):
        ApiKey.find(tmp_path / "missing", {})
    key = ApiKey("secret", "here")
    assert "secret" not in repr(key) + repr(vars(key))
    assert key.opens("secret")
    assert not key.opens("secre")


def test_an_open_address_without_a_key_is_warned_of(tiny_bundle: Path, tmp_path: Path) -> None:
    taken = serving(tiny_bundle, "--host", "0.0.0.0")
    taken.process.terminate()
    _, errors = taken.process.communicate(timeout=30)
    assert "whoever reaches it may ask; --api-key-file asks for a key" in errors
    done = edgepeft("serve", tiny_bundle, "--api-key-file", tmp_path / "none")
    assert done.returncode == 2
    assert "cannot be read" in done.stderr


def test_answers_without_text_have_the_time_of_one_alone(tiny_bundle: Path) -> None:
    """Whatever is asked for, a server has its place back after ``answer_seconds``."""
    runtime = Runtime(tiny_bundle, threads=1)
    (stop, *_) = runtime.prompter.stop_ids
    begun: list[int] = []

    class Counting(Runtime):
        def stream_ids(self, *given: Any, **more: Any) -> Any:
            begun.append(len(begun))
            time.sleep(0.2)
            return super().stream_ids(*given, **more)

    endpoint = GenerationEndpoint(Counting(tiny_bundle, threads=1), Limits(answer_seconds=0.5))
    client = TestClient(make_app(endpoint))
    done = client.post(
        RAW,
        json={
            "model": MODEL,
            "prompt": ["a"] * 12,
            "max_tokens": 1,
            "logit_bias": {str(stop): 100},
        },
    )
    assert done.status_code == 503
    assert len(begun) < 6
