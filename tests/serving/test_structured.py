"""Answers within a schema over HTTP: many clients at once, what is refused, and that the server lives on."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgepeft.guidance import Grammar
from edgepeft.runtime import Runtime
from tests.runtime.test_answer_schema import SCHEMA, write_bundle
from tests.serving.test_serve import JSON, WAYS, Server, served, serving

pytest.importorskip("llguidance")

PROMPTS = ["What is the colour of grass?", "Turn on the light", "No JSON, please."]
ROOMS = {
    "type": "object",
    "properties": {"room": {"enum": ["kitchen", "hall"]}, "on": {"type": "boolean"}},
    "required": ["room", "on"],
    "additionalProperties": False,
}
LIST = {"type": "array", "items": {"type": "integer", "maximum": 99, "minimum": 0}, "maxItems": 4}
SCHEMAS = [ROOMS, LIST, None]


def wanted(schema: Any) -> dict[str, Any]:
    """A ``response_format`` of a schema; none for None."""
    if schema is None:
        return {}
    inner = {"name": "answer", "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": inner}}


@pytest.fixture(scope="module", params=WAYS)
def server(tiny_bundle: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    with served(
        tiny_bundle, "--max-tokens", 240, "--waiting", 100, *WAYS[request.param]
    ) as running:
        yield running


@pytest.fixture(scope="module")
def alone(tiny_bundle: Path) -> dict[tuple[int, int], str]:
    """The answer to each prompt within each schema when nothing else is asked."""
    runtime = Runtime(tiny_bundle, threads=1)
    bounds = [None if schema is None else Grammar.json_schema(schema) for schema in SCHEMAS]
    return {
        (at, which): runtime.complete(prompt, max_new_tokens=240, grammar=bound).text
        for at, prompt in enumerate(PROMPTS)
        for which, bound in enumerate(bounds)
    }


def test_many_clients_each_get_the_answer_of_their_own_schema(
    server: Server, alone: dict[tuple[int, int], str]
) -> None:
    """Schemas mixed with free answers, streamed and not, with clients who leave and requests that are refused."""
    asked = [key for key in alone for _ in range(3)]

    def leave(schema: Any) -> None:
        connection = http.client.HTTPConnection(server.host, timeout=60)
        body = {
            "model": "cpu-int4",
            "messages": [{"role": "user", "content": "x"}],
            "stream": True,
            **wanted(schema),
        }
        connection.request("POST", "/v1/chat/completions", json.dumps(body), JSON)
        connection.sock.close()
        connection.close()

    def ask(index: int) -> str:
        at, which = asked[index]
        more = wanted(SCHEMAS[which])
        if index % 5 == 1:
            leave(SCHEMAS[which])
        if index % 5 == 2:
            assert server.chat("cpu-int4", "x", **wanted({"not": {}}))[0] == 400
        if index % 2:
            return server.streamed("cpu-int4", PROMPTS[at], **more)[0]
        return server.answer("cpu-int4", PROMPTS[at], **more)

    with ThreadPoolExecutor(len(asked)) as clients:
        answers = list(clients.map(ask, range(len(asked))))
    assert answers == [alone[key] for key in asked]
    for (_, which), text in alone.items():
        if SCHEMAS[which] is not None:
            jsonschema.validate(json.loads(text), SCHEMAS[which])


def test_an_object_of_any_kind_begins_as_one(server: Server) -> None:
    text = server.answer("cpu-int4", "hi", response_format={"type": "json_object"})
    assert text.startswith("{")
    free = server.answer("cpu-int4", "hi")
    assert server.answer("cpu-int4", "hi", response_format={"type": "text"}) == free


@pytest.mark.parametrize(
    ("response_format", "param", "said"),
    [
        ({"type": "xml"}, ".type", "must be text, json_object or json_schema"),
        ({}, ".type", "must be text, json_object or json_schema"),
        ({"type": "json_object", "schema": {}}, ".schema", "not a field that this server knows"),
        ({"type": "json_schema"}, ".json_schema", "an object of name and schema"),
        (
            wanted({"type": "objekt"})["response_format"],
            ".json_schema.schema",
            "Invalid type: objekt",
        ),
        (wanted({"not": {}})["response_format"], ".json_schema.schema", "is written: not; leave"),
        (
            wanted({"requird": []})["response_format"],
            ".json_schema.schema",
            "did you mean required?",
        ),
        (wanted({"$ref": "#"})["response_format"], ".json_schema.schema", "no finite text fits it"),
        (wanted("text")["response_format"], ".json_schema.schema", "must be an object"),
        (
            {"type": "json_schema", "json_schema": {"schema": {}}},
            ".json_schema.name",
            "must be a string",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "more": 1}},
            ".json_schema.more",
            "not a field that this server knows",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_bounds_no_answer_is_refused_in_a_line(
    server: Server, response_format: Any, param: str, said: str, stream: bool
) -> None:
    status, text = server.chat("cpu-int4", "hi", response_format=response_format, stream=stream)
    assert status == 400, text
    error = json.loads(text)["error"]
    assert said in error["message"]
    assert "\n" not in error["message"]
    assert error["param"] == f"response_format{param}"
    assert server.answer("cpu-int4", "hi", max_tokens=1)


def test_a_response_format_that_is_no_object(server: Server) -> None:
    status, text = server.chat("cpu-int4", "hi", response_format="json")
    assert status == 400
    assert json.loads(text)["error"]["param"] == "response_format"


@pytest.mark.parametrize("free", [False, True])
def test_a_bundles_own_schema_counts_unless_it_is_switched_off(
    tiny_bundle: Path, tmp_path: Path, free: bool
) -> None:
    bundle = write_bundle(tmp_path / "bundle", tiny_bundle, json.dumps(SCHEMA))
    running = serving(bundle, "--max-tokens", 100, *(["--free"] if free else []))
    try:
        unbounded = running.answer("cpu-int4", "hi", response_format={"type": "text"})
        text = running.answer("cpu-int4", "hi")
        assert (text == unbounded) == free
        if not free:
            jsonschema.validate(json.loads(text), SCHEMA)
    finally:
        running.process.terminate()
        running.process.wait(timeout=30)
