"""What is said of rows with tools before anything is trained: what templates leave out, calls that do not fit."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgepeft.data.checks import check_data
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Message, Row
from edgepeft.data.tool_checks import call_warnings, refuse_unwritten
from edgepeft.data.tools import read_tools
from edgepeft.errors import InputError
from tests.tiny import write_tiny_tokenizer
from tests.tool_calling.templates import SAMPLE

TOOLS = read_tools(
    [
        {
            "name": "dim",
            "parameters": {
                "type": "object",
                "properties": {"level": {"type": "integer"}},
                "required": ["level"],
            },
        }
    ],
    "tools",
)


def row(arguments: dict[str, Any] | None = None, where: str = "train.jsonl line 1") -> Row:
    given = {"level": 3} if arguments is None else arguments
    turns: list[Message] = [
        {"role": "user", "content": "Dim it."},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": "dim", "arguments": given}}],
        },
        {"role": "tool", "content": "ok"},
        {"role": "assistant", "content": "Done."},
    ]
    return Row(tuple(turns), None, where, tools=TOOLS)


@pytest.mark.parametrize(
    ("cut", "wanted"),
    [
        ("{{ signature(tool.function) }}", ""),
        ("{{ call.function.name | tojson }}", "writes no calls of tools"),
        ("{{ call.function.arguments | tojson }}", "writes no arguments of calls"),
        (" + message.content + ", "writes no results of tools"),
    ],
)
def test_a_template_that_leaves_something_out_is_refused(
    tmp_path: Path, cut: str, wanted: str
) -> None:
    assert cut in SAMPLE
    changed = SAMPLE.replace(cut, " ~ 'x' ~ " if cut.startswith(" +") else "")
    writer = Prompter.from_folder(write_tiny_tokenizer(tmp_path, template=changed))
    if wanted:
        with pytest.raises(
            InputError, match=f"^train.jsonl line 1: the chat template {wanted}; set"
        ):
            refuse_unwritten(writer, row())
    else:
        refuse_unwritten(writer, row())


def test_a_template_without_tools_is_refused(tmp_path: Path) -> None:
    writer = Prompter.from_folder(write_tiny_tokenizer(tmp_path))
    with pytest.raises(InputError, match=r"the chat template writes no tools; set data\.template"):
        refuse_unwritten(writer, row())


def test_a_call_that_would_not_be_learned_is_refused(tmp_path: Path) -> None:
    asking = "assistant\n<think>\n\n</think>\n\n"
    changed = SAMPLE.replace(
        '{{ "<|im_start|>assistant\\n" }}', json.dumps(f"<|im_start|>{asking}").join(("{{ ", " }}"))
    )
    changed = changed.replace(
        "+ message.content }}", '+ ("" if message.tool_calls else message.content) }}'
    )
    assert changed.count("think") == 2
    writer = Prompter.from_folder(write_tiny_tokenizer(tmp_path, template=changed))
    turns = row().messages
    assert turns is not None
    with pytest.raises(
        InputError, match="writes a call of tools otherwise than it asks for an answer"
    ):
        refuse_unwritten(writer, Row(turns[:2], None, "train.jsonl line 1", tools=TOOLS))


def test_expressions_of_strangers_take_no_time(tmp_path: Path) -> None:
    schema = {"properties": {"level": {"type": "string", "pattern": "(a+)+$"}}}
    odd = read_tools([{"name": "dim", "parameters": schema}], "t")
    started = time.process_time()
    assert call_warnings([replace(row({"level": "a" * 40 + "b"}), tools=odd)]) == []
    assert time.process_time() - started < 1
    big = read_tools(
        [{"name": "dim", "parameters": {"properties": {"level": {"multipleOf": 0.5}}}}], "t"
    )
    assert len(call_warnings([replace(row({"level": 10**400}), tools=big)])) == 1


def test_calls_that_their_tools_do_not_allow_are_told(tmp_path: Path) -> None:
    wrong = [row({"level": "three"}, "a"), row({"level": 3, "room": "attic"}, "b"), row({}, "c")]
    assert call_warnings([row()]) == []
    (told,) = call_warnings([row(), *wrong])
    assert told.startswith("3 rows call a tool with arguments that its parameters do not allow")
    assert "(first: a: dim: 'three' is not of type 'integer')" in told
    odd = read_tools(
        [{"name": "dim", "parameters": {"properties": {"level": {"type": "no"}}}}], "t"
    )
    assert row().messages is not None
    (told,) = call_warnings([Row(row().messages, None, "a", tools=odd)])
    assert "its parameters are no schema" in told
    # The same where the data is looked at as a whole, beside the other warnings.
    writer = Prompter.from_folder(write_tiny_tokenizer(tmp_path, template=SAMPLE))
    report = check_data([row()], [wrong[0]], writer, max_length=512)
    assert any("do not allow" in warning for warning in report.warnings)
    assert not any("otherwise than the rows" in warning for warning in report.warnings)
