"""Calls on the device: in every way of decoding, on the command line, and measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgepeft.cli import run
from edgepeft.data.rows import Message, Row
from edgepeft.data.tools import read_tools
from edgepeft.errors import InputError
from edgepeft.evaluation.call_form import call_form
from edgepeft.evaluation.probes import Question, check_asked, task_questions
from edgepeft.guidance import FREE
from edgepeft.runtime import Offered, Runtime
from edgepeft.runtime.answering import Answerer
from edgepeft.utils.alike import same_json
from tests.runtime.conftest import every_engine, plain_copy
from tests.tool_calling.bundles import GIVEN, LIGHT, PROMPT, TOOLS, bundle, runtime

pytest.importorskip("llguidance")

MUST = Offered(TOOLS, required=True, several=False)
__all__ = ["bundle", "runtime"]


@pytest.fixture(scope="module")
def engines(
    bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Answerer]]:
    yield from every_engine(bundle, plain_copy(bundle, tmp_path_factory.mktemp("plain") / "bundle"))


def test_every_way_of_decoding_calls_the_same(engines: dict[str, Answerer]) -> None:
    found = {
        name: engine.complete(PROMPT, max_new_tokens=100, tools=MUST)
        for name, engine in engines.items()
    }
    first = next(iter(found.values()))
    assert {name: done.ids for name, done in found.items()} == dict.fromkeys(found, first.ids)
    (call,) = engines["genai"].tool_use.parsed(first.ids, TOOLS).calls
    if call["function"]["name"] == "set_light":
        jsonschema.validate(call["function"]["arguments"], LIGHT)


def test_text_is_what_it_would_be_without_a_bound(runtime: Runtime) -> None:
    free = runtime.complete(PROMPT, max_new_tokens=24, tools=GIVEN, grammar=FREE)
    bounded = runtime.complete(PROMPT, max_new_tokens=24, tools=GIVEN)
    assert (
        free.prompt_ids
        == bounded.prompt_ids
        == runtime.prompter.prompt([{"role": "user", "content": PROMPT}], TOOLS)
    )
    assert bounded.ids == free.ids
    assert runtime.tool_use.parsed(free.ids, TOOLS).calls == ()


def test_tools_that_define_nothing_are_refused(runtime: Runtime, tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match=r"^tools\[1\]: should define a function"):
        runtime.stream(PROMPT, tools=[{"type": "web_search"}])
    without = Runtime(tiny_bundle, threads=1)
    with pytest.raises(InputError, match=r"^tools: the chat template of .* writes no calls"):
        without.stream(PROMPT, tools=GIVEN)


# On the command line.


def test_run_prints_calls(
    bundle: Path, runtime: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(prompt: str | None = PROMPT, **options: Any) -> str:
        run.command(bundle, prompt, stats=False, **options)
        return capsys.readouterr().out

    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps(GIVEN))
    wanted = runtime.complete(PROMPT, max_new_tokens=12, tools=GIVEN)
    line = json.loads(printed(tools=tools, max_new_tokens=12, as_json=True))
    assert (line["text"], line["tool_calls"]) == (wanted.text, [])
    # A grammar that leaves nothing but a call shows how one is printed.
    grammar = tmp_path / "call.lark"
    said = '<tool_call>{"name": "set_light", "arguments": {"room": "hall", "level": 7}}</tool_call>'
    grammar.write_text(f"start: {json.dumps(said)}\n")
    called = {"name": "set_light", "arguments": {"room": "hall", "level": 7}}
    assert json.loads(printed(tools=tools, grammar=grammar)) == called
    line = json.loads(printed(tools=tools, grammar=grammar, as_json=True))
    assert line["tool_calls"] == [called]
    prompts = tmp_path / "prompts.jsonl"
    own = {"prompt": PROMPT, "tools": [{"name": "set_light"}]}
    turns = {"messages": [{"role": "user", "content": PROMPT}]}
    prompts.write_text("".join(json.dumps(row) + "\n" for row in (own, turns, {"prompt": PROMPT})))

    def of_file(**options: Any) -> list[Any]:
        lines = printed(None, prompts=prompts, grammar=grammar, **options).splitlines()
        return [json.loads(line).get("tool_calls") for line in lines]

    assert of_file(tools=tools) == [[called]] * 3
    assert of_file() == [[called], None, None]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, ": not found"),
        ("[]", ": defines no tools"),
        ("{}", ": defines no tools"),
        ("[1]", "[1]: should define a function"),
        ("f()", ": not JSON"),
    ],
)
def test_a_file_without_tools_is_refused(
    bundle: Path,
    tmp_path: Path,
    text: str | None,
    wanted: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgepeft.cli.run.open_bundle", lambda *_, **__: pytest.fail("opened"))
    tools = tmp_path / "tools.json"
    if text is not None:
        tools.write_text(text)
    with pytest.raises(InputError) as error:
        run.command(bundle, PROMPT, tools=tools)
    assert str(error.value).startswith(f"--tools {tools}{wanted}")


def test_what_tools_do_not_go_with(bundle: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps(GIVEN))
    with pytest.raises(InputError, match="--tools: does not go with --score"):
        run.command(bundle, PROMPT, tools=tools, score=["yes"])


# Measured.


def asked(runtime: Runtime, calls: list[Any], content: str, where: str) -> Question:
    answer: Message = {"role": "assistant", "content": content}
    if calls:
        answer["tool_calls"] = calls
    row = Row(({"role": "user", "content": PROMPT}, answer), None, where, tools=TOOLS)
    (question,) = task_questions([row], runtime.prompter, 512)
    return question


def call(name: str, **arguments: Any) -> Any:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def test_calls_are_measured_as_json(runtime: Runtime) -> None:
    questions = [
        asked(runtime, [call("set_light", room="hall", level=7)], "", "1"),
        asked(runtime, [call("stop")], "", "2"),
        asked(runtime, [], "It is on.", "3"),
        replace(asked(runtime, [], "It is on.", "4"), tools=[]),
    ]
    check_asked(questions[:3], runtime.prompter, [])
    steps: list[int] = []
    found = call_form(runtime, questions, {"2"}, (), lambda: steps.append(1))
    assert found is not None
    assert found.rows == len(steps) == 3
    # The model, which was taught nothing, answers the second in words and the others, if asked, likewise.
    assert found.free.model_dump() == {"parse": 1.0, "name": 2 / 3, "call": 2 / 3}
    assert found.bounded is not None
    assert found.bounded.model_dump() == {"parse": 1.0, "name": 1 / 3, "call": 1 / 3}
    assert found.unbounded_because is None
    assert call_form(runtime, questions[3:], (), (), lambda: None) is None
    odd = {"name": "f", "parameters": {"properties": {"x": {"not": {}}}}}
    unbounded = call_form(
        runtime,
        [replace(questions[0], tools=[dict(read_tools([odd], "t")[0])])],
        (),
        (),
        lambda: None,
    )
    assert unbounded is not None
    assert unbounded.bounded is None
    assert "the parameters of f" in (unbounded.unbounded_because or "")


def test_questions_are_kept_with_their_tools(runtime: Runtime) -> None:
    question = asked(runtime, [call("stop")], "", "1")
    again = Question(**json.loads(json.dumps(question.as_dict())))
    assert again == question
    assert again.calls == [call("stop")]
    without = replace(question, tools=[], calls=[])
    assert not {"tools", "calls"} & set(without.as_dict())


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ({"a": 20, "b": [1, 2]}, {"b": [1.0, 2], "a": 20.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": False}, {"a": 0}, False),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": None}, {}, False),
        ("20", 20, False),
        ({"a": {"b": "x"}}, {"a": {"b": "x"}}, True),
    ],
)
def test_what_is_the_same_as_json(ours: Any, theirs: Any, same: bool) -> None:
    assert same_json(ours, theirs) is same
    assert same_json(theirs, ours) is same
