"""Calls in every template: written, read back, and bounded, the same in each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Message, Row, ToolCall
from edgepeft.data.tools import read_tools
from edgepeft.errors import InputError
from edgepeft.guidance.vocabulary import Vocabulary
from edgepeft.tool_calling import parse, syntax_of
from edgepeft.tool_calling.grammar import call_grammar
from edgepeft.tool_calling.offered import Offered
from edgepeft.tool_calling.syntax import KeyedArguments
from tests.tool_calling.templates import CALLING, WITHOUT, names, prompter

pytest.importorskip("llguidance")
pytest.importorskip("trl")

LIGHT = {
    "type": "object",
    "properties": {
        "room": {"type": "string"},
        "level": {"type": "number"},
        "on": {"type": "boolean"},
        "mode": {"enum": ["warm", "cold"]},
    },
    "required": ["room"],
}
TOOLS = read_tools(
    [
        {
            "type": "function",
            "function": {"name": "set_light", "description": "d", "parameters": LIGHT},
        },
        {"name": "stop", "description": "Stops everything."},
    ],
    "tools",
)
FULL = {"room": 'the attic, "2"', "level": 7, "on": False, "mode": "warm"}
ODD = {"room": "x < y\nz {1} [2] (3)", "level": -1.5, "on": True}


def call(name: str, arguments: dict[str, Any], own: str = "abcd12345") -> ToolCall:
    return {"type": "function", "id": own, "function": {"name": name, "arguments": arguments}}


ANSWERS: list[list[ToolCall]] = [
    [call("set_light", FULL)],
    [call("set_light", {"room": "hall"})],
    [call("stop", {})],
    [call("set_light", FULL), call("stop", {}, "efgh67890")],
    [call("stop", {}), call("stop", {}, "efgh67890"), call("set_light", ODD, "ijkl12345")],
]
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("set_lights", {"room": "a"}),
    ("set_light", {"level": 3}),
    ("set_light", {"room": "a", "mode": "hot"}),
    ("set_light", {"room": "a", "colour": "hot"}),
    ("set_light", {"room": "a", "level": "x"}),
    ("stop", {"room": "a"}),
]


def row(calls: Sequence[ToolCall], content: str = "") -> Row:
    question: Message = {"role": "user", "content": "Hi"}
    answer: Message = {"role": "assistant", "content": content}
    if calls:
        answer["tool_calls"] = list(calls)
    return Row((question, answer), None, "row", tools=TOOLS)


def functions(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    return [dict(one["function"]) for one in calls]


@pytest.fixture(scope="module", params=CALLING)
def writer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Prompter:
    return prompter(tmp_path_factory.mktemp("model"), request.param)


def taken(writer: Prompter, offered: Offered, answer: Row) -> str | None:
    """What of an answer its grammar lets through before it refuses the rest; None where it takes all of it."""
    syntax = syntax_of(writer)
    assert syntax is not None
    vocabulary = Vocabulary(writer.tokenizer, writer.stop_ids, writer.vocab_size, "tiny")
    matcher = vocabulary.matcher(
        call_grammar(offered, syntax, vocabulary.parts, vocabulary.shown())
    )
    ids = writer.split(answer)[1]
    for place, token in enumerate(ids):
        if not matcher.allowed()[token]:
            return writer.spelled(ids[:place])
        matcher.take(token)
    return None


def test_what_is_written_is_read_back(writer: Prompter) -> None:
    syntax = syntax_of(writer)
    assert syntax is not None
    read = 0
    for calls in ANSWERS:
        if syntax.joint is None and len(calls) > 1:
            continue
        answer = row(calls)
        text = writer.answer_text(answer)
        found = parse(text, syntax, TOOLS)
        assert functions(found.calls) == functions(calls)
        assert found.content == ""
        # White space is not the template's own everywhere.
        form = syntax.arguments
        if calls is not ANSWERS[4] and not (
            isinstance(form, KeyedArguments) and not form.quotes[0]
        ):
            loose = text.replace("\n", "\n\n")
            assert functions(parse(loose, syntax, TOOLS).calls) == functions(calls)
        # Cut off, it is no call but what was said.
        assert parse(text.rstrip()[:-1], syntax, TOOLS).calls == ()
        assert parse(f"{text} and so on", syntax, TOOLS).calls == ()
        read += 1
    assert read >= 3
    plain = parse(writer.answer_text(row([], "It is {done}.")), syntax, TOOLS)
    assert (plain.content, plain.calls) == ("It is {done}.", ())
    if syntax.prefix:
        both = parse(writer.answer_text(row(ANSWERS[0], "I will.")), syntax, TOOLS)
        assert (both.content, functions(both.calls)) == ("I will.", functions(ANSWERS[0]))


def test_prompts_and_answers_are_those_of_transformers(writer: Prompter) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(writer.name)
    several = (syntax := syntax_of(writer)) is not None and syntax.joint is not None
    for calls in ANSWERS:
        if not several and len(calls) > 1:
            continue
        one = row(calls)
        result: Message = {"role": "tool", "content": "ok", "name": "set_light"}
        result["tool_call_id"] = "abcd12345"
        turns = [*(one.messages or ()), result]

        def theirs(messages: Sequence[Any], **options: Any) -> str:
            text: str = tokenizer.apply_chat_template(
                list(messages), tools=list(TOOLS), tokenize=False, **options
            )
            return text

        prompt = writer.renderer.prompt(one.prompt_messages, tools=TOOLS).text
        assert prompt == theirs(one.prompt_messages, add_generation_prompt=True)
        whole = writer.renderer.conversation(turns, "", TOOLS).text
        assert whole == theirs(turns)
        asked = writer.prompt(one.prompt_messages, TOOLS)
        assert asked == tokenizer(prompt, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("required", [False, True])
def test_a_grammar_takes_what_the_tools_allow_and_nothing_else(
    writer: Prompter, required: bool
) -> None:
    syntax = syntax_of(writer)
    assert syntax is not None
    offered = Offered(TOOLS, required=required)
    several = syntax.joint is not None
    for calls in ANSWERS:
        if several or len(calls) == 1:
            assert taken(writer, offered, row(calls)) is None
    for name, arguments in WRONG:
        assert taken(writer, offered, row([call(name, arguments)])) is not None
    said = taken(writer, offered, row([], "Hello, it is <b>done</b>."))
    assert (said is not None) == required
    if syntax.prefix and not required:
        assert taken(writer, offered, row(ANSWERS[0], "I will do it.")) is None
    if several:
        alone = Offered(TOOLS, required=required, several=False)
        assert taken(writer, alone, row(ANSWERS[0])) is None
        assert taken(writer, alone, row(ANSWERS[3])) is not None
    only = offered.only("stop")
    assert taken(writer, only, row([call("stop", {})])) is None
    assert taken(writer, only, row(ANSWERS[0])) is not None


@pytest.mark.parametrize("name", [f"{name}.jinja" for name in sorted(WITHOUT)])
def test_templates_without_calls_are_told(tmp_path: Path, name: str) -> None:
    assert name in names()
    assert syntax_of(prompter(tmp_path, name)) is None


def test_what_no_keyed_call_can_hold_is_refused_by_name(tmp_path: Path) -> None:
    writer = prompter(tmp_path, "keyed")
    for schema, said in (
        ({"type": "string", "pattern": "a+"}, "room: pattern can't be held"),
        ({"type": "array", "items": {"type": "string"}}, "writes an array in a way of its own"),
        ({"enum": [["a"]]}, "an enum of lists"),
        ({"type": "string", "colour": 1}, "'colour' is no keyword"),
    ):
        tools = read_tools([{"name": "f", "parameters": {"properties": {"room": schema}}}], "tools")
        with pytest.raises(InputError, match=f"^tools: the parameters of f.*{said}"):
            taken(writer, Offered(tools), row([]))
    with pytest.raises(InputError, match="there is no tool 'stopp'"):
        Offered(TOOLS).only("stopp")
