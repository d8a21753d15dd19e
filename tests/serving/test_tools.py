"""Tools over HTTP, asked by OpenAI's client and by LangChain: calls whole and streamed, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgepeft.data.prompt import Prompter
from edgepeft.data.tools import read_tools
from edgepeft.runtime import Bundle, Offered, Runtime
from edgepeft.runtime.bounding import Bounding
from edgepeft.runtime.tool_use import ToolUse
from edgepeft.serving.called import Calling
from tests.serving.test_serve import WAYS, Server, served
from tests.tool_calling.bundles import GIVEN, LIGHT, PROMPT, TOOLS, bundle, runtime
from tests.tool_calling.templates import OWN, prompter
from tests.tool_calling.test_calls import ANSWERS, row
from tests.tool_calling.test_calls import TOOLS as OTHERS

openai = pytest.importorskip("openai")
pytest.importorskip("llguidance")

MODEL = "cpu-int4"
ASKED: list[Any] = [{"role": "user", "content": PROMPT}]
__all__ = ["bundle", "runtime"]


@pytest.fixture(scope="module", params=WAYS)
def server(bundle: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    with served(bundle, "--max-tokens", 200, *WAYS[request.param]) as running:
        yield running


@pytest.fixture(scope="module")
def ask(server: Server) -> Callable[..., Any]:
    client = openai.OpenAI(base_url=f"http://{server.host}/v1", api_key="none", max_retries=0)

    def asked(**fields: Any) -> Any:
        given = {"model": MODEL, "messages": ASKED, "tools": GIVEN, **fields}
        return client.chat.completions.create(**given)

    return asked


def calls_of(message: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(one.function.name, json.loads(one.function.arguments)) for one in message.tool_calls]


def sound(calls: list[tuple[str, dict[str, Any]]]) -> None:
    """Each is a call of a tool there is, with arguments that fit its schema, by a judge of its own."""
    assert calls
    for name, arguments in calls:
        schema = LIGHT if name == "set_light" else {"type": "object", "maxProperties": 0}
        jsonschema.validate(arguments, schema)
        assert name in ("set_light", "stop")


def test_what_must_be_called_is(ask: Callable[..., Any], runtime: Runtime) -> None:
    done = ask(tool_choice="required", max_tokens=200)
    (choice,) = done.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    sound(calls_of(choice.message))
    assert all(len(call.id) == 9 for call in choice.message.tool_calls)
    wanted = runtime.complete(PROMPT, max_new_tokens=200, tools=Offered(TOOLS, required=True))
    parsed = runtime.tool_use.parsed(wanted.ids, TOOLS)
    assert calls_of(choice.message) == [
        (call["function"]["name"], call["function"]["arguments"]) for call in parsed.calls
    ]
    assert done.usage.prompt_tokens == len(wanted.prompt_ids)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "stop"}}])
def test_streamed_it_is_the_same(ask: Callable[..., Any], choice: Any) -> None:
    whole = ask(tool_choice=choice, max_tokens=200)
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    texts, reasons = [], []
    for chunk in ask(tool_choice=choice, max_tokens=200, stream=True):
        (part,) = chunk.choices
        texts.append(part.delta.content or "")
        reasons.append(part.finish_reason)
        for call in part.delta.tool_calls or ():
            names[call.index] = call.function.name
            arguments[call.index] = call.function.arguments
    assert "".join(texts) == ""
    assert reasons[-1] == "tool_calls"
    found = [(names[at], json.loads(arguments[at])) for at in sorted(names)]
    assert found == calls_of(whole.choices[0].message)
    if choice != "required":
        assert {name for name, _ in found} == {"stop"}


def test_one_call_where_no_more_are_wanted(ask: Callable[..., Any]) -> None:
    done = ask(tool_choice="required", parallel_tool_calls=False, max_tokens=200)
    assert len(done.choices[0].message.tool_calls) == 1


def test_what_may_be_called_need_not_be(
    ask: Callable[..., Any], runtime: Runtime, bundle: Path
) -> None:
    wanted = runtime.complete(PROMPT, max_new_tokens=24, tools=TOOLS)
    done = ask(max_tokens=24)
    assert done.choices[0].message.content == wanted.text
    assert done.choices[0].message.tool_calls is None
    streamed = [chunk.choices[0] for chunk in ask(max_tokens=24, stream=True)]
    assert "".join(part.delta.content or "" for part in streamed) == wanted.text
    assert streamed[-1].finish_reason == done.choices[0].finish_reason
    # The model was told of the tools, unless none may be called.
    without = runtime.complete(PROMPT, max_new_tokens=24)
    assert wanted.prompt_ids != without.prompt_ids
    none = ask(tool_choice="none", max_tokens=24)
    assert none.choices[0].message.content == without.text
    assert none.usage.prompt_tokens == len(without.prompt_ids)


def test_a_stop_string_cuts_streamed_text_where_it_cuts_the_whole(ask: Callable[..., Any]) -> None:
    whole = ask(max_tokens=24).choices[0].message.content
    stop = whole[len(whole) // 2 :][:3]
    cut = ask(max_tokens=24, stop=[stop]).choices[0].message.content
    assert cut == whole[: whole.index(stop)]
    parts = ask(max_tokens=24, stop=[stop], stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == cut


def test_nesting_without_end_is_refused(ask: Callable[..., Any]) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    call = {"id": "1", "type": "function", "function": {"name": "stop", "arguments": {"a": deep}}}
    with pytest.raises(openai.BadRequestError, match="nested too deeply"):
        ask(messages=[*ASKED, {"role": "assistant", "tool_calls": [call]}])
    parameters = {"type": "object", "properties": {"a": {"default": deep}}}
    with pytest.raises(openai.BadRequestError, match="nested too deeply"):
        ask(tools=[{"type": "function", "function": {"name": "f", "parameters": parameters}}])


def test_results_go_back_to_the_model(ask: Callable[..., Any], runtime: Runtime) -> None:
    first = ask(tool_choice="required", parallel_tool_calls=False, max_tokens=200)
    said = first.choices[0].message
    (call,) = said.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"level": 20}'}
    done = ask(messages=[*ASKED, said.model_dump(exclude_none=True), result], max_tokens=12)
    function = {"name": call.function.name, "arguments": json.loads(call.function.arguments)}
    turns: list[Any] = [
        *ASKED,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": function}],
        },
        {"role": "tool", "content": '{"level": 20}'},
    ]
    wanted = runtime.complete(turns, max_new_tokens=12, tools=TOOLS)
    assert done.usage.prompt_tokens == len(wanted.prompt_ids)
    assert done.choices[0].message.content == wanted.text
    text = runtime.prompter.tokenizer.decode(wanted.prompt_ids, skip_special_tokens=False)
    assert '<tool_response>{"level": 20}</tool_response>' in text


def test_log_probabilities_come_with_calls(ask: Callable[..., Any]) -> None:
    fields = {"tool_choice": "required", "max_tokens": 60, "logprobs": True}
    whole = ask(**fields).choices[0].logprobs.content
    parts = [chunk.choices[0].logprobs for chunk in ask(**fields, stream=True)]
    streamed = [entry.token for part in parts if part is not None for entry in part.content]
    assert streamed == [entry.token for entry in whole]


@pytest.mark.parametrize(
    ("fields", "param", "wanted"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools", "should define a function"),
        ({"tools": [*GIVEN, GIVEN[0]]}, "tools", "set_light is defined twice"),
        ({"tools": [{"function": {"name": "f", "parameters": {"type": "array"}}}]}, "tools", "of f"),
        ({"tool_choice": {"type": "function", "function": {"name": "dim"}}}, "tool_choice", "no tool 'dim'"),
        ({"tool_choice": "any"}, "tool_choice", "must be none, auto, required"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice", "must be none, auto, required"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice", "no tools to choose"),
        ({"response_format": {"type": "json_object"}}, "response_format", "leave one of them out"),
        ({"parallel_tool_calls": 2}, "parallel_tool_calls", "boolean"),
        ({"functions": [{"name": "f"}]}, "functions", "not supported"),
    ],
)  # fmt: skip
def test_what_offers_nothing_is_refused_by_name(
    ask: Callable[..., Any], fields: dict[str, Any], param: str, wanted: str
) -> None:
    extra = {"extra_body": fields}
    with pytest.raises(openai.BadRequestError) as error:
        ask(**extra)
    assert error.value.param == param
    assert wanted in error.value.message


def test_a_schema_that_bounds_nothing_is_refused(ask: Callable[..., Any]) -> None:
    for schema, wanted in (({"not": {}}, "not"), ({"colour": 1}, "no keyword of JSON Schema")):
        parameters = {"type": "object", "properties": {"x": schema}}
        tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
        with pytest.raises(openai.BadRequestError, match=wanted):
            ask(tools=[tool], tool_choice="required")
    sound(calls_of(ask(tool_choice="required", max_tokens=200).choices[0].message))


@pytest.mark.parametrize(
    ("turn", "wanted"),
    [
        ({"role": "user", "content": "x", "tool_calls": [{"id": "1"}]}, "messages.1.tool_calls"),
        ({"role": "assistant", "tool_calls": [{"id": "1"}]}, "messages.1.tool_calls"),
        ({"role": "assistant", "tool_calls": "f()"}, "not JSON"),
        ({"role": "assistant", "content": None}, "messages.1.content"),
        ({"role": "tool", "content": None, "tool_call_id": "1"}, "messages.1.content"),
        ({"role": "tool", "content": "x", "tool_call_id": 1}, "messages.1.tool_call_id"),
        ({"role": "function", "content": "x", "name": "f"}, "messages.1.role"),
    ],
)
def test_turns_that_call_nothing_are_refused(
    ask: Callable[..., Any], turn: dict[str, Any], wanted: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=wanted):
        ask(messages=[*ASKED, turn], max_tokens=4)


def test_a_model_that_writes_no_calls_says_so(tiny_bundle: Path) -> None:
    with served(tiny_bundle, "--max-tokens", 20) as running:
        client = openai.OpenAI(base_url=f"http://{running.host}/v1", api_key="none", max_retries=0)
        with pytest.raises(
            openai.BadRequestError, match=r"the chat template of .* writes no calls"
        ):
            client.chat.completions.create(model=MODEL, messages=ASKED, tools=GIVEN)


def test_langchains_tools(bundle: Path) -> None:
    langchain = pytest.importorskip("langchain_openai")
    with served(bundle, "--max-tokens", 200) as running:
        model = langchain.ChatOpenAI(
            model=MODEL, base_url=f"http://{running.host}/v1", api_key="none", max_retries=0
        )
        bound = model.bind_tools(GIVEN, tool_choice="required")
        done = bound.invoke(PROMPT)
        sound([(call["name"], call["args"]) for call in done.tool_calls])
        whole = None
        for chunk in bound.stream(PROMPT):
            whole = chunk if whole is None else whole + chunk
        assert whole is not None
        assert [(call["name"], call["args"]) for call in whole.tool_calls] == [
            (call["name"], call["args"]) for call in done.tool_calls
        ]


# What is shown of an answer while it comes.


@pytest.mark.parametrize("name", [*OWN, "qwen3.jinja", "llama3_2.jinja", "lfm2_v2.jinja"])
def test_nothing_of_a_call_is_shown_as_text(tmp_path: Path, name: str) -> None:
    writer = prompter(tmp_path, name)
    use = ToolUse(writer, Bounding(writer, writer.vocab_size, "tiny"), "tiny")
    calling = Calling(use, Offered(OTHERS), writer)

    def shown(content: str, calls: Any) -> tuple[str, list[str]]:
        ids = writer.split(row(calls, content))[1][:-1]
        follow = calling.text()
        pieces = [follow.next(ids[:count]) for count in range(1, len(ids) + 1)]
        parsed = use.parsed(ids, OTHERS)
        assert len(parsed.calls) == len(calls)
        pieces.append(follow.rest(parsed.content if calls else text_of(writer, ids, use)))
        return "".join(pieces), pieces

    for calls in ANSWERS[:3]:
        assert shown("", calls)[0] == ""
    text, pieces = shown("It is <b>done</b>, {really}.", [])
    assert text == "It is <b>done</b>, {really}."
    assert len([piece for piece in pieces if piece]) > 3
    if use.syntax.prefix:
        assert shown("I will do it.", ANSWERS[0])[0] == "I will do it."


def text_of(writer: Prompter, ids: list[int], use: ToolUse) -> str:
    return writer.decode(ids).removeprefix(use.syntax.opening)


def test_tools_are_read_from_a_bundle_by_the_runtime(bundle: Path) -> None:
    opened = Runtime(Bundle.open(bundle), threads=1)
    tools = [{"name": "stop"}]
    done = opened.complete(
        PROMPT, max_new_tokens=60, tools=Offered(read_tools(tools, "t"), required=True)
    )
    (call, *_) = opened.tool_use.parsed(done.ids).calls
    assert call["function"] == {"name": "stop", "arguments": {}}
