"""Every field of a row or a message is used, refused by name or warned about; nothing is dropped in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgepeft.data.fields import BESIDE, COLUMNS, MESSAGES, TEXT_PARTS, Use
from edgepeft.data.formats import DataFile, read_file
from edgepeft.data.rows import Row
from edgepeft.data.shape_names import COLUMNS as SHAPE_COLUMNS
from edgepeft.errors import InputError
from tests.data import declared_fields

USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Ho"}


def read(folder: Path, *records: dict[str, Any], **options: Any) -> DataFile:
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_file(path, **options)


def turns(row: Row) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in row.messages or ()]


# The table against what others declare.


def test_columns_of_trl_are_known() -> None:
    declared = declared_fields.trl_columns()
    assert {"messages", "prompt", "chosen", "tools", "chat_template_kwargs", "images"} <= declared
    assert declared <= set(COLUMNS)


def test_keys_of_messages_are_known() -> None:
    read_by_templates = declared_fields.template_message_keys()
    assert {"role", "content", "tool_calls", "reasoning_content"} <= read_by_templates
    declared = read_by_templates | declared_fields.trl_message_keys()
    declared |= declared_fields.transformers_reasoning_keys()
    assert declared <= set(MESSAGES)


def test_fields_of_openai_are_known() -> None:
    assert set(declared_fields.OPENAI_COLUMNS) <= set(COLUMNS)
    assert set(declared_fields.OPENAI_MESSAGES) <= set(MESSAGES)


def test_what_the_templates_read_of_a_message_is_used_or_refused() -> None:
    """Left out it would change what is learned."""
    unused = {"name", "tool_call_id", "end_turn"}
    for key in declared_fields.template_message_keys() - unused:
        assert MESSAGES[key].use in (Use.used, Use.refused), key


def test_a_refusal_says_why_and_what_to_do() -> None:
    for table in (COLUMNS, MESSAGES):
        for name, field in table.items():
            if field.use is Use.refused:
                assert field.why, name
                assert field.mend, name
            if field.use is Use.unused:
                assert field.why, name


# What is used.


@pytest.mark.parametrize(
    "record",
    [
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
        {"messages": [USER, ASSISTANT]},
        {"instruction": "Hi", "output": "Ho"},
        {"prompt": "Hi", "completion": "Ho"},
        {"prompt": [USER], "completion": [ASSISTANT]},
        {"prompt": "Hi", "chosen": "Ho", "rejected": "no"},
    ],
)
def test_a_system_column_begins_the_conversation(tmp_path: Path, record: dict[str, Any]) -> None:
    found = read(tmp_path, {**record, "system": "Be a pirate."}, system="Be brief.")
    assert turns(found.rows[0])[:2] == [("system", "Be a pirate."), ("user", "Hi")]
    assert "system" in found.usage.as_dict()["used"]
    # Where it is empty the recipe's holds.
    found = read(tmp_path, {**record, "system": ""}, system="Be brief.")
    assert turns(found.rows[0])[0] == ("system", "Be brief.")


def test_two_system_messages(tmp_path: Path) -> None:
    own = {"messages": [{"role": "system", "content": "A"}, USER, ASSISTANT]}
    assert len(read(tmp_path, {**own, "system": "A"}).rows[0].messages or ()) == 3
    with pytest.raises(
        InputError, match=r"line 1: the column system and the first message are two"
    ):
        read(tmp_path, {**own, "system": "B"})
    with pytest.raises(InputError, match=r"line 1: system should be a string, is a list"):
        read(tmp_path, {"messages": [USER, ASSISTANT], "system": ["B"]})


@pytest.mark.parametrize(
    "history", [[["a", "b"], ["c", "d"]], json.dumps([["a", "b"], ["c", "d"]])]
)
def test_history_is_the_earlier_turns(tmp_path: Path, history: Any) -> None:
    record = {"instruction": "Hi", "input": "", "output": "Ho", "history": history, "system": "S"}
    (row,) = read(tmp_path, record).rows
    assert turns(row) == [
        *(("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")),
        *(("user", "Hi"), ("assistant", "Ho")),
    ]
    assert turns(read(tmp_path, {**record, "history": []}).rows[0])[1] == ("user", "Hi")
    for wrong in ([["a"]], "earlier", [["a", 1]], [[["a", "b"]]]):
        with pytest.raises(InputError, match=r"line 1: history"):
            read(tmp_path, {**record, "history": wrong})


@pytest.mark.parametrize(
    "flag", [{"weight": 0}, {"train": False}, {"training": 0}, {"loss": False}]
)
def test_turns_that_are_not_to_be_learned(tmp_path: Path, flag: dict[str, Any]) -> None:
    messages = [USER, {**ASSISTANT, **flag}, USER, {**ASSISTANT, "weight": 1}]
    (row,) = read(tmp_path, {"messages": messages}).rows
    assert row.unlearned == {1}
    with_system = read(tmp_path, {"messages": messages, "system": "S"}).rows[0]
    assert with_system.unlearned == {2}
    # What comes behind the last turn that is learned says nothing.
    found = read(tmp_path, {"messages": [USER, ASSISTANT, USER, {**ASSISTANT, **flag}]})
    assert turns(found.rows[0]) == [("user", "Hi"), ("assistant", "Ho")]
    assert "turns behind the last one that is learned" in found.usage.warnings()[0]
    with pytest.raises(InputError, match=r"line 1: no assistant turn is to be learned"):
        read(tmp_path, {"messages": [USER, {**ASSISTANT, **flag}]})
    key = next(iter(flag))
    with pytest.raises(InputError, match=rf"messages\[2\] {key}: 0\.5 is neither 0 nor 1"):
        read(tmp_path, {"messages": [USER, {**ASSISTANT, key: 0.5}]})


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_of_an_answer(tmp_path: Path, name: str) -> None:
    (row,) = read(tmp_path, {"messages": [USER, {**ASSISTANT, name: "so"}]}).rows
    assert row.answer == {**ASSISTANT, "reasoning_content": "so"}
    both = {**ASSISTANT, name: "so", "reasoning_content": "otherwise"}
    if name != "reasoning_content":
        with pytest.raises(InputError, match=r"messages\[2\] has reasoning_content and .*differ"):
            read(tmp_path, {"messages": [USER, both]})
    with pytest.raises(InputError, match=rf"messages\[2\] {name} should be a string"):
        read(tmp_path, {"messages": [USER, {**ASSISTANT, name: ["so"]}]})
    found = read(tmp_path, {"messages": [{**USER, name: "so"}, ASSISTANT]})
    assert f"messages[].{name} (only assistant turns are learned)" in found.usage.warnings()[0]


def test_content_in_parts(tmp_path: Path) -> None:
    for kind in TEXT_PARTS:
        parts = [{"type": kind, "text": "He"}, {"type": kind, "text": "y"}]
        (row,) = read(tmp_path, {"messages": [{**USER, "content": parts}, ASSISTANT]}).rows
        assert turns(row)[0] == ("user", "Hey")
    for kind in {*declared_fields.OPENAI_PARTS, "image", "video", "tool_use"} - set(TEXT_PARTS):
        other: list[dict[str, object]] = [{"type": "text", "text": "a"}, {"type": kind, kind: {}}]
        with pytest.raises(
            InputError, match=rf"messages\[1\]: part 2 of its content is of type '{kind}'"
        ):
            read(tmp_path, {"messages": [{**USER, "content": other}, ASSISTANT]})


def test_developers_speak_as_the_system_does(tmp_path: Path) -> None:
    messages = [{"role": "developer", "content": "S"}, USER, ASSISTANT]
    assert turns(read(tmp_path, {"messages": messages}, system="other").rows[0])[0] == (
        "system",
        "S",
    )


# What is refused.


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("tool_calls", [{"function": {"name": "f"}}]),
        ("function_call", {"name": "f"}),
        ("chat_template_kwargs", {"enable_thinking": False}),
        *((name, ["a.png"]) for name in ("image", "images", "videos", "audio")),
        ("completion_mask", [0, 1]),
        ("assistant_masks", [0, 1]),
        ("labels", [1, 2]),
        ("weight", 0),
        ("train", False),
        ("label", False),
        ("label", 0),
        ("kto_tag", "false"),
    ],
)
def test_columns_that_change_what_is_learned_are_refused(
    tmp_path: Path, column: str, value: Any
) -> None:
    good = {"messages": [USER, ASSISTANT]}
    with pytest.raises(InputError, match=rf"^train\.jsonl line 2: {column}: .+; "):
        read(tmp_path, good, {**good, column: value})
    empty: tuple[object, ...] = (None, "", [], {})
    for nothing in empty:
        assert len(read(tmp_path, good, {**good, column: nothing}).rows) == 2


@pytest.mark.parametrize(("column", "value"), [("weight", 1), ("label", True), ("kto_tag", "true")])
def test_values_that_say_nothing_are_not_refused(tmp_path: Path, column: str, value: Any) -> None:
    assert read(tmp_path, {"messages": [USER, ASSISTANT], column: value}).usage.warnings() == []


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        ({**USER, "tool_calls": [CALL]}, r"messages\[\]\.tool_calls: only an assistant calls"),
        ({**USER, "function_call": CALL}, r"messages\[\]\.function_call: only an assistant calls"),
        ({**ASSISTANT, "tools": [CALL]}, r"messages\[\]\.tools: .* belongs to a row"),
        ({**USER, "tool_responses": [CALL]}, r"messages\[\]\.tool_responses: .*turn of its own"),
        ({**ASSISTANT, "channel": "analysis"}, r"messages\[\]\.channel"),
        ({**ASSISTANT, "audio": {"id": "1"}}, r"messages\[\]\.audio"),
        ({"role": "assistant", "content": None, "refusal": "no"}, r"messages\[\]\.refusal"),
        ({**ASSISTANT, "train_detail": [{"begin": 0}]}, r"messages\[\]\.train_detail"),
        ({"role": "tool", "content": None}, "needs role and content"),
        ({"from": "function_call", "value": "{}"}, r"tool_calls\[1\]: its name should be"),
        ({"from": "function_call", "value": "f()"}, r"tool_calls: not JSON"),
        ({"role": "assistant", "content": None}, "needs role and content"),
    ],
)
def test_turns_that_cannot_be_learned_are_refused(
    tmp_path: Path, turn: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=rf"train\.jsonl line 1: messages\[2\]:? ?{said}"):
        read(tmp_path, {"messages": [USER, turn, USER, ASSISTANT]})


# What is left out, and told.


def test_what_is_not_used_is_told_once(tmp_path: Path) -> None:
    records = [
        {
            "messages": [{**USER, "name": "Bo", "mood": "fine"}, ASSISTANT],
            **{"id": n, "source": "web", "score": 0.5, "colour": "red", "text": "whole"},
        }
        for n in range(3)
    ]
    found = read(tmp_path, *records)
    (told,) = found.usage.warnings()
    assert told == (
        "train.jsonl: not used: score (every row counts the same), colour (not known), text (rows are read as "
        "messages, which has no such column), messages[].name (chat templates are given role and content), "
        "messages[].mood (not known)"
    )
    fields = found.usage.as_dict()
    assert fields["harmless"] == ["id", "source"]
    assert {
        "field": "colour",
        "why": "not known",
        "rows": 3,
        "first": "train.jsonl line 1",
    } in fields["unused"]
    assert json.loads(json.dumps(found.layout()))["fields"] == fields


def test_turns_in_two_columns(tmp_path: Path) -> None:
    other = [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]
    found = read(tmp_path, {"messages": [USER, ASSISTANT], "conversations": other})
    assert turns(found.rows[0]) == [("user", "Hi"), ("assistant", "Ho")]
    assert "conversations (the turns are in messages)" in found.usage.warnings()[0]


def test_many_unknown_columns_make_one_line(tmp_path: Path) -> None:
    found = read(tmp_path, {"prompt": "a", "completion": "b", **{f"c{n}": n for n in range(99)}})
    (told,) = found.usage.warnings()
    assert told.endswith("c7 (not known) and 91 more")
    assert len(found.usage.as_dict()["unused"]) == 99


def test_rows_of_texts_have_no_conversation(tmp_path: Path) -> None:
    found = read(tmp_path, {"text": "a", "system": "S", "history": [["a", "b"]], "id": 1})
    assert found.rows[0].messages is None
    assert "system (rows are read as text" in found.usage.warnings()[0]
    found = read(tmp_path, {"tokens": ["a"], "tags": ["O"], "pos_tags": ["X"], "id": 1})
    assert found.usage.warnings() == ["train.jsonl: not used: pos_tags (not known)"]
    found = read(tmp_path, {"anchor": "a", "positive": "b", "negative": "c"})
    assert found.usage.warnings() == []
    assert found.rows[0].negative == "c"


def test_columns_that_were_renamed_are_used_under_our_name(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {"q": "a", "a": "b", "s": "c"},
        columns={"prompt": "q", "completion": "a", "system": "s"},
    )
    assert found.usage.warnings() == []
    assert turns(found.rows[0]) == [("system", "c"), ("user", "a"), ("assistant", "b")]


# Columns that match no known layout: the mend never learns what was rejected.


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("question answer", "{prompt: question, completion: answer}"),
        ("id question answer", "{prompt: question, completion: answer}"),
        ("instruction context response category", "{prompt: instruction, completion: response}"),
        ("answer question", "{prompt: question, completion: answer}"),
        ("better worse", "{chosen: better, rejected: worse}"),
        (
            "question good_answer bad_answer",
            "{prompt: question, chosen: good_answer, rejected: bad_answer}",
        ),
        ("chosen", "no rejected beside chosen"),
        ("rejected", "a column for what is asked and one for the answer"),
        ("prompt rejected", "a column for what is asked and one for the answer"),
        ("prompt", "a column for what is asked and one for the answer"),
        ("prompt completions labels", "judge every step"),
        ("input_ids attention_mask", "token ids already"),
        (
            "input preferred_output non_preferred_output",
            "rename them to prompt, chosen and rejected",
        ),
    ],
)
def test_the_mend_for_other_columns(tmp_path: Path, columns: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, dict.fromkeys(columns.split(), "x"))
    assert said in str(error.value)
    mend = str(error.value).partition("); ")[2]
    for worse in ("worse", "rejected", "bad_answer", "non_preferred_output"):
        assert f"completion: {worse}" not in mend
        assert f"prompt: {worse}" not in mend


def test_the_documentation_names_what_is_used_and_refused() -> None:
    text = (Path(__file__).parents[2] / "docs" / "rows.md").read_text(encoding="utf-8")
    for name, field in MESSAGES.items():
        if field.use is Use.used:
            assert f"`{name}`" in text, name
    for shape, columns in SHAPE_COLUMNS.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {shape} |")]
        for column in (*columns, *BESIDE.get(shape, ())):
            assert f"`{column}`" in line, (shape, column)
    for name in ("tool_calls", "chat_template_kwargs", "completion_mask", "labels", "kto_tag"):
        assert COLUMNS[name].use is Use.refused
        assert f"`{name}`" in text or f"`{name}: " in text
