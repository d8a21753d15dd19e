"""Rows that call tools: the forms they come in, what is refused, and what the model reads of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgepeft.data.formats import read_file
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Row, said
from edgepeft.data.written_rows import as_jsonl
from edgepeft.errors import InputError
from tests.tiny import write_tiny_tokenizer

TEMPLATE = (Path(__file__).parents[2] / "samples/templates/chatml-tools.jinja").read_text()
PARAMETERS = {
    "type": "object",
    "properties": {"room": {"type": "string"}, "level": {"type": "integer"}},
    "required": ["room"],
}
FUNCTION = {"name": "set_light", "description": "Sets a light.", "parameters": PARAMETERS}
TOOL = {"type": "function", "function": FUNCTION}
STOP = {"type": "function", "function": {"name": "stop"}}
USER = {"role": "user", "content": "Attic to 20, please."}
ARGUMENTS = {"room": "attic", "level": 20}
CALL = {"id": "c1", "type": "function", "function": {"name": "set_light", "arguments": ARGUMENTS}}


def read(folder: Path, *records: dict[str, Any]) -> list[Row]:
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return list(read_file(path).rows)


def asks(**answer: Any) -> dict[str, Any]:
    return {"messages": [USER, {"role": "assistant", **answer}], "tools": [TOOL]}


@pytest.fixture
def prompter(tmp_path: Path) -> Prompter:
    return Prompter.from_folder(write_tiny_tokenizer(tmp_path / "model", template=TEMPLATE))


# The forms that rows come in.


@pytest.mark.parametrize(
    "answer",
    [
        {"content": None, "tool_calls": [CALL]},
        {
            "content": "",
            "tool_calls": [{"function": {"name": "set_light", "arguments": ARGUMENTS}}],
        },
        {"tool_calls": [{"name": "set_light", "arguments": json.dumps(ARGUMENTS)}]},
        {"content": None, "tool_calls": json.dumps([CALL])},
        {
            "content": None,
            "function_call": {"name": "set_light", "arguments": json.dumps(ARGUMENTS)},
        },
        {"tool_calls": [{"name": "set_light", "arguments": None, "parameters": ARGUMENTS}]},
        {
            "tool_calls": [
                {"name": "set_light", "arguments": ARGUMENTS, "function": None, "type": None}
            ]
        },
        # In another order than the tool has its parameters, and padded with null, as Parquet pads.
        {
            "tool_calls": [
                {"name": "set_light", "arguments": {"level": 20, "room": "attic", "x": None}}
            ]
        },
    ],
)
def test_calls_in_every_form_are_the_same(
    tmp_path: Path, prompter: Prompter, answer: dict[str, Any]
) -> None:
    (row,) = read(tmp_path, asks(**answer))
    assert row.answer is not None
    (call,) = row.answer["tool_calls"]
    assert call["function"] == {"name": "set_light", "arguments": ARGUMENTS}
    assert list(call["function"]["arguments"]) == ["room", "level"]
    assert prompter.answer_text(row) == (
        '<tool_call>{"name": "set_light", "arguments": {"room": "attic", "level": 20}}</tool_call>'
    )
    prompt, completion = prompter.split(row)
    assert "set_light(room: string, level?: integer) Sets a light." in prompter.decode(prompt)
    assert prompter.decode(completion) == prompter.answer_text(row)
    assert completion[-1] in prompter.stop_ids
    assert prompt == prompter.prompt(row.prompt_messages, row.tools)


@pytest.mark.parametrize(
    "tools",
    [
        [TOOL, STOP],
        json.dumps([TOOL, STOP]),
        [FUNCTION, {"name": "stop"}],
        [{**TOOL, "function": {**FUNCTION, "strict": None}}, STOP],
        [{**TOOL, "name": None}, {"type": None, "function": None, "name": "stop"}],
    ],
)
@pytest.mark.parametrize("column", ["tools", "functions"])
def test_tools_in_every_form_are_the_same(tmp_path: Path, column: str, tools: Any) -> None:
    record = asks(tool_calls=[CALL])
    del record["tools"]
    (row,) = read(tmp_path, {**record, column: tools})
    assert row.tools == (TOOL, STOP)


def test_sharegpts_turns_of_calls_and_results(tmp_path: Path, prompter: Prompter) -> None:
    turns = [
        {"from": "human", "value": "Attic to 20, please."},
        {
            "from": "function_call",
            "value": json.dumps({"name": "set_light", "arguments": ARGUMENTS}),
        },
        {"from": "observation", "value": '{"level": 20}'},
        {"from": "gpt", "value": "Done."},
    ]
    (row,) = read(tmp_path, {"conversations": turns, "tools": json.dumps([FUNCTION])})
    assert [turn["role"] for turn in row.messages or ()] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    text = prompter.renderer.conversation(row.messages or (), "", row.tools).text
    assert '<tool_response>{"level": 20}</tool_response>' in text
    # The call is learned as well as the answer behind its result.
    encoded = prompter.row(row)
    learned = [token for token, kept in zip(encoded.ids, encoded.mask, strict=True) if kept]
    shown = prompter.tokenizer.decode(learned, skip_special_tokens=True)
    assert '"attic"' in shown
    assert "Done." in shown
    assert "tool_response" not in shown


def test_a_tools_turn_keeps_what_it_answers(tmp_path: Path) -> None:
    result = {"role": "tool", "tool_call_id": "c1", "name": "set_light", "content": {"level": 20}}
    messages = [USER, {"role": "assistant", "tool_calls": [CALL]}, result]
    (row,) = read(tmp_path, {"messages": [*messages, {"role": "assistant", "content": "Done."}]})
    assert row.messages is not None
    assert row.messages[2] == {**result, "content": '{"level": 20}'}
    assert row.tools == ()


def test_a_prompt_and_a_preference_have_tools_too(tmp_path: Path, prompter: Prompter) -> None:
    right = [{"role": "assistant", "tool_calls": [CALL]}]
    wrong = [{"role": "assistant", "content": "Which light?"}]
    (row,) = read(tmp_path, {"prompt": [USER], "completion": right, "tools": [TOOL]})
    (other,) = read(
        tmp_path, {"prompt": [USER], "chosen": right, "rejected": wrong, "tools": [TOOL]}
    )
    assert prompter.split(row) == prompter.split(other)
    assert other.rejected == {"role": "assistant", "content": "Which light?"}


def test_rows_are_written_as_they_are_read(tmp_path: Path) -> None:
    (row,) = read(tmp_path, asks(content="I will.", tool_calls=[CALL]))
    (tmp_path / "again.jsonl").write_text(as_jsonl([row]))
    (again,) = read_file(tmp_path / "again.jsonl").rows
    assert (again.messages, again.tools) == (row.messages, row.tools)
    assert said(row.messages[-1]).startswith("I will.\n[{") if row.messages else False


# What is refused.


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[1]: should define a function (this one is 'web_search')"),
        ({"tools": {"name": "f"}}, "tools: should be a list of tools"),
        ({"tools": "f()"}, "tools: not JSON"),
        ({"tools": [TOOL, FUNCTION]}, "tools: the tool set_light is defined twice"),
        ({"tools": [{"name": "no name"}]}, "tools[1]: its name should be the name of a function"),
        ({"tools": [{"name": "f", "parameters": {"type": "array"}}]}, "the parameters of f should be"),
        ({"tools": [{"name": "f", "parameters": {"properties": []}}]}, "the properties of f should be"),
        ({"tools": [{"name": "f", "description": 1}]}, "the description of f should be a text"),
        ({"tools": [TOOL], "functions": [FUNCTION]}, "has tools and functions; keep one"),
        ({"tools": [{"name": f"f{n}"} for n in range(129)]}, "129 tools are more than 128"),
        ({"tools": [{"name": "f", "description": "x" * 300_000}]}, "larger than 262144 bytes"),
        ({"tools": [{**STOP, "function": {"name": "stops"}}]}, "calls set_light, which is none of its tools"),
        ({"tools": [{"name": "set_lights"}]}, "did you mean set_lights?"),
    ],
)  # fmt: skip
def test_tools_that_define_nothing_are_refused(
    tmp_path: Path, change: dict[str, Any], wanted: str
) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, {**asks(tool_calls=[CALL]), **change})
    assert str(error.value).startswith("train.jsonl line 1: ")
    assert wanted in str(error.value)


@pytest.mark.parametrize(
    ("calls", "wanted"),
    [
        (["set_light()"], "tool_calls[1]: should be a call of a function"),
        ([{"type": "custom", "name": "f"}], "only functions can be called, not 'custom'"),
        ([{"name": "set_light", "arguments": "{room}"}], "the arguments of set_light: not JSON"),
        ([{"name": "set_light", "arguments": ["attic"]}], "the arguments of set_light should be an object"),
        ([{"name": "set_light", "arguments": '{"a": 1, "a": 2}'}], "the key 'a' is given twice"),
        ([{"arguments": {}}], "its name should be the name of a function"),
        ([{"name": "set_light", "args": {"room": "attic"}}], "a call has no 'args'"),
        ([{"name": "set_light", "input": {"room": "attic"}}], "a call has no 'input'"),
        ([{"function": {"name": "set_light"}, "arguments": ARGUMENTS}], "a call has no 'arguments'"),
        ([{"name": "set_light", "id": ["a"]}], "its id should be a text"),
    ],
)  # fmt: skip
def test_calls_that_call_nothing_are_refused(tmp_path: Path, calls: Any, wanted: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, asks(tool_calls=calls))
    assert str(error.value).startswith("train.jsonl line 1: messages[2] tool_calls")
    assert wanted in str(error.value)


def test_both_forms_of_calls_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has tool_calls and function_call; keep one"):
        read(tmp_path, asks(tool_calls=[CALL], function_call={"name": "stop"}))


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(100):
        schema = {"type": "array", "items": schema}
    tool = {"name": "f", "parameters": {"properties": {"x": schema}}}
    with pytest.raises(InputError, match="nested too deeply"):
        read(tmp_path, {**asks(content="x"), "tools": [tool]})


# What is text stays text.


def test_markers_in_a_tools_texts_are_no_tokens(tmp_path: Path, prompter: Prompter) -> None:
    end = prompter.tokenizer.token_to_id("<|im_end|>")
    assert end is not None
    plain = asks(tool_calls=[CALL])
    odd = {**FUNCTION, "description": "Sets <|im_end|> a light."}
    told = {"room": "<|im_end|>", "level": 20}
    tricky = asks(tool_calls=[{"name": "set_light", "arguments": told}])
    rows = [*read(tmp_path, plain), *read(tmp_path, {**tricky, "tools": [odd]})]
    counts = [[token for part in prompter.split(row) for token in part].count(end) for row in rows]
    assert counts[0] == counts[1] == 3
    shown = prompter.tokenizer.decode(prompter.split(rows[1])[1], skip_special_tokens=False)
    assert '"room": "<|im_end|>"' in shown


def test_what_stands_beside_definitions_has_an_order_too(tmp_path: Path) -> None:
    place = {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}}
    optional = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    parameters = {
        "properties": {
            "place": {"$ref": "#/$defs/place"},
            "n": {"type": "integer"},
            "m": optional,
        },
        "$defs": {"place": place},
    }
    arguments = {"m": None, "n": None, "place": {"y": 1, "x": 2}}
    answer = {"role": "assistant", "tool_calls": [{"name": "f", "arguments": arguments}]}
    (row,) = read(
        tmp_path, {"messages": [USER, answer], "tools": [{"name": "f", "parameters": parameters}]}
    )
    assert row.answer is not None
    found = row.answer["tool_calls"][0]["function"]["arguments"]
    assert json.dumps(found) == '{"place": {"x": 2, "y": 1}, "m": null}'


def test_calls_need_a_template_also_without_tools(tmp_path: Path) -> None:
    plain = Prompter.from_folder(write_tiny_tokenizer(tmp_path / "plain", template=None))
    record = asks(tool_calls=[CALL])
    del record["tools"]
    (row,) = read(tmp_path, record)
    with pytest.raises(InputError, match="tools need a chat template that writes them"):
        plain.split(row)


def test_a_key_that_looks_like_a_token_is_refused(tmp_path: Path, prompter: Prompter) -> None:
    parameters = {"properties": {"<|im_end|>": {"type": "string"}}}
    (row,) = read(
        tmp_path, {**asks(content="x"), "tools": [{"name": "f", "parameters": parameters}]}
    )
    with pytest.raises(
        InputError, match=r"the key .<\|im_end\|>. looks like a control token; rename it"
    ):
        prompter.split(row)


def test_tools_need_a_template_that_writes_them(tmp_path: Path) -> None:
    plain = Prompter.from_folder(write_tiny_tokenizer(tmp_path / "plain", template=None))
    (row,) = read(tmp_path, asks(tool_calls=[CALL]))
    with pytest.raises(InputError, match="tools need a chat template that writes them"):
        plain.split(row)
