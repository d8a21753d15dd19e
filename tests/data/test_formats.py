"""Every kind of file and shape, and the line users are shown for each way to get one wrong."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from edgepeft.data.formats import read_rows
from edgepeft.data.rows import Row
from edgepeft.errors import InputError, MissingError

USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Ho"}
SYSTEM = {"role": "system", "content": "Be brief."}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jsonl(folder: Path, *records: Any) -> Path:
    return write(folder / "train.jsonl", "".join(json.dumps(r) + "\n" for r in records))


def contents(row: Row) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in row.messages or ()]


PAIR = [("user", "Hi"), ("assistant", "Ho")]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"messages": [USER, ASSISTANT]}, PAIR),
        ({"conversations": [USER, ASSISTANT]}, PAIR),
        (
            {
                "conversations": [
                    {"from": "human", "value": "Hi"},
                    {"from": "gpt", "value": "Ho"},
                ]
            },
            PAIR,
        ),
        ({"prompt": "Hi", "completion": "Ho"}, PAIR),
        ({"prompt": [USER], "completion": [ASSISTANT]}, PAIR),
        ({"prompt": [USER], "completion": "Ho"}, PAIR),
        ({"instruction": "Hi", "output": "Ho"}, PAIR),
        ({"instruction": "Hi", "input": "", "output": "Ho"}, PAIR),
        ({"instruction": "Hi", "input": None, "output": "Ho"}, PAIR),
        (
            {"instruction": "Hi", "input": "you", "output": "Ho"},
            [("user", "Hi\n\nyou"), ("assistant", "Ho")],
        ),
        # Parquet and datasets give every message every key.
        ({"messages": [{**USER, "from": None}, {**ASSISTANT, "value": None}]}, PAIR),
        ({"prompt": "Hi", "completion": ""}, [("user", "Hi"), ("assistant", "")]),
    ],
)
def test_shapes(tmp_path: Path, record: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    (row,) = read_rows(jsonl(tmp_path, record))
    assert contents(row) == expected
    assert [turn["content"] for turn in row.prompt_messages] == [expected[0][1]]
    assert row.completion == expected[-1][1]
    assert (row.text, row.where) == (None, "train.jsonl line 1")


def test_text_rows_take_no_system_message(tmp_path: Path) -> None:
    (row,) = read_rows(jsonl(tmp_path, {"text": "Once upon"}), system="Be brief.")
    assert (row.messages, row.text, row.completion) == (None, "Once upon", "Once upon")
    assert row.prompt_messages == ()


def test_system_goes_in_front_of_rows_that_have_none(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"messages": [USER, ASSISTANT]}, {"messages": [SYSTEM, USER, ASSISTANT]})
    first, second = read_rows(path, system="Be long.")
    assert contents(first)[0] == ("system", "Be long.")
    assert contents(second)[0] == ("system", "Be brief.")
    assert len(contents(first)) == len(contents(second)) == 3


def test_the_completion_is_the_last_assistant_turn(tmp_path: Path) -> None:
    last = {"role": "assistant", "content": "Bye"}
    (row,) = read_rows(jsonl(tmp_path, {"messages": [USER, ASSISTANT, USER, last]}))
    assert row.completion == "Bye"
    assert [turn["content"] for turn in row.prompt_messages] == ["Hi", "Ho", "Hi"]


def test_json_lines_numbers_lines_and_splits_only_at_newlines(tmp_path: Path) -> None:
    odd = json.dumps({"prompt": "a\u2028b\x85c", "completion": "d"}, ensure_ascii=False)
    path = write(tmp_path / "a.jsonl", f"\ufeff{odd}\r\n\n{odd}\n")
    rows = read_rows(path)
    assert [row.where for row in rows] == ["a.jsonl line 1", "a.jsonl line 3"]
    assert rows[0].prompt_messages[0]["content"] == "a\u2028b\x85c"


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"version": 1, "data": rows}])
def test_json(tmp_path: Path, wrap: Any) -> None:
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]
    found = read_rows(write(tmp_path / "a.json", json.dumps(wrap(rows), indent=1)))
    assert [row.completion for row in found] == ["b", "d"]
    assert found[1].where == "a.json row 2"


def test_json_lines_under_the_name_of_json(tmp_path: Path) -> None:
    line = json.dumps({"prompt": "a", "completion": "b"}) + "\n"
    rows = read_rows(write(tmp_path / "a.json", line * 2))
    assert [row.where for row in rows] == ["a.json line 1", "a.json line 2"]


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.tsv", "\t")])
def test_csv_numbers_lines_as_an_editor_does(tmp_path: Path, name: str, mark: str) -> None:
    text = mark.join(["prompt", " completion"]) + "\n"
    text += mark.join(['"two\nlines"', '"say ""hi"""']) + "\n\n" + mark.join(["c", ""]) + "\n"
    first, second = read_rows(write(tmp_path / name, text))
    assert contents(first) == [("user", "two\nlines"), ("assistant", 'say "hi"')]
    assert (first.where, second.where) == (f"{name} line 2", f"{name} line 5")
    assert second.completion == ""


def test_csv_holds_long_cells_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "\ufefftext\r\n" + "x" * 300_000 + "\r\n")
    assert len(read_rows(path)[0].text or "") == 300_000


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pa.table({"messages": [[USER, ASSISTANT], [SYSTEM, USER, ASSISTANT]]})
    parquet.write_table(table, tmp_path / "a.parquet")
    first, second = read_rows(tmp_path / "a.parquet")
    assert contents(first) == PAIR
    assert second.where == "a.parquet row 2"
    with pytest.raises(InputError, match=r"b\.parquet: not readable as Parquet"):
        read_rows(write(tmp_path / "b.parquet", "PAR1 it is not"))


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingError, match=r"pip install 'edgepeft\[train\]'"):
        read_rows(write(tmp_path / "a.parquet", b"PAR1"))


def test_columns_map_ours_to_theirs(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path,
        {"question": "Hi", "answer": "Ho", "text": "whole"},
        {"question": "Hi", "answer": "He", "text": "whole"},
    )
    rows = read_rows(path, columns={"prompt": "question", "completion": "answer"})
    assert [row.completion for row in rows] == ["Ho", "He"]
    # With messages in the file too, naming the columns decides.
    path = jsonl(tmp_path, {"messages": [USER, ASSISTANT], "q": "Q", "a": "A"})
    (row,) = read_rows(path, columns={"prompt": "q", "completion": "a"})
    assert contents(row) == [("user", "Q"), ("assistant", "A")]
    swapped = {"prompt": "completion", "completion": "prompt"}
    (row,) = read_rows(jsonl(tmp_path, {"prompt": "b", "completion": "a"}), columns=swapped)
    assert contents(row) == [("user", "a"), ("assistant", "b")]


def test_an_asked_for_shape_wins_over_the_first_that_fits(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"messages": [USER, ASSISTANT], "text": "whole"})
    assert read_rows(path)[0].text is None
    assert read_rows(path, shape="text")[0].text == "whole"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"columns": {"prompt": "frage"}}, "'frage' for data.columns.prompt; it has q, a"),
        (
            {"columns": {"promt": "q"}},
            "no column 'promt'; ours are anchor, chosen, completion",
        ),
        ({"shape": "text"}, "columns q, a do not fit data.shape text (text)"),
        ({"shape": "alpaca"}, "data.shape: no 'alpaca'; use auto, messages, prompt"),
        ({}, "columns q, a match no known layout (messages + conversations; prompt + completion;"),
        ({}, "name the columns, as data.columns: {prompt: q, completion: a}"),
    ],
)
def test_columns_that_do_not_fit_are_named(
    tmp_path: Path, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError) as error:
        read_rows(jsonl(tmp_path, {"q": "Hi", "a": "Ho"}), **options)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "columns none match no known layout"),
        ({"user's": "Hi", "a": "Ho"}, "data.columns: {prompt: user's, completion: a}"),
    ],
)
def test_what_mends_strange_columns(tmp_path: Path, row: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        read_rows(jsonl(tmp_path, row))


def test_columns_that_were_not_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt|completion\nHi|Ho\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"separated by '\|': save it as CSV"):
        read_rows(path)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_separators_are_told_by_the_header(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f'prompt{mark}completion\n"Hi, you; there"{mark}Ho\n', encoding="utf-8-sig")
    (row,) = read_rows(path)
    assert row.prompt_messages[-1]["content"] == "Hi, you; there"
    assert row.completion == "Ho"


@pytest.mark.parametrize("address", ["https://example.org/rows.csv", "s3://rows/train.jsonl"])
def test_addresses_are_no_files(tmp_path: Path, address: str) -> None:
    with pytest.raises(InputError, match="addresses are not read; download the file"):
        read_rows(tmp_path / address)


GOOD = {"prompt": "Hi", "completion": "Ho"}


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ({"prompt": "Hi"}, "line 2: no completion"),
        ({"prompt": "Hi", "completion": None}, "line 2: no completion"),
        ({"prompt": "Hi", "completion": 3}, "line 2: completion should be a string, is a number"),
        ({"prompt": {}, "completion": "Ho"}, "line 2: prompt should be a string, is an object"),
        ({"prompt": [], "completion": "Ho"}, "prompt should be a list of messages, is an empty"),
        ({"prompt": "Hi", "completion": [USER]}, "line 2: the last turn is 'user'"),
        ({"prompt": "\ud83d", "completion": "Ho"}, "line 2: prompt holds half of a character"),
        ([1], "line 2: a row should be an object"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path: Path, second: Any, expected: str) -> None:
    with pytest.raises(InputError) as error:
        read_rows(jsonl(tmp_path, GOOD, second))
    assert expected in str(error.value)
    assert str(error.value).startswith("train.jsonl")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([USER], "the last turn is 'user'; end it with an assistant turn"),
        ([ASSISTANT], "nothing for the assistant to answer"),
        ([], "should be a list of messages, is an empty list"),
        ("Hi", "should be a list of messages, is a string"),
        ([USER, "Ho"], "messages[2] should be an object"),
        ([USER, {"role": "assistant"}], "messages[2] needs role and content"),
        ([USER, {"role": "assistant", "content": [{"type": "text"}]}], "messages[2] needs"),
        ([{"role": "narrator", "content": "x"}, ASSISTANT], "unknown role 'narrator'; use system"),
        ([USER, {"role": "assistant", "content": "\udc00"}], "messages[2] content holds half"),
    ],
)
def test_messages_that_do_not_fit_are_named(tmp_path: Path, messages: Any, expected: str) -> None:
    with pytest.raises(InputError) as error:
        read_rows(jsonl(tmp_path, {"messages": messages}))
    assert expected in str(error.value)
    assert "train.jsonl line 1" in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", "", "a.jsonl: contains no rows"),
        ("a.csv", "prompt,completion\n", "a.csv: contains no rows"),
        ("a.json", "[]", "a.json: contains no rows"),
        ("a.jsonl", '{"prompt": "a", "completion": "b"}\n{"prompt"\n', "a.jsonl line 2: not valid"),
        ("a.json", '[\n{"prompt": 1},\n{]', "a.json line 3: not valid JSON"),
        ("a.json", '{"train": [], "test": []}', "this object has 2"),
        ("a.json", "3", "a.json: should be a list of rows"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.jsonl", b'{"prompt": "a"}\n{"prompt": "\xff\xfe"}\n', "a.jsonl line 2: not UTF-8"),
        ("a.csv", "prompt,completion\na,b,c\n", "a.csv line 2: 3 cells for 2 columns"),
        ("a.csv", "prompt,prompt\na,b\n", "a.csv line 1: column 'prompt' is there twice"),
        ("a.csv", 'prompt,completion\na,b\nc,"d\n', "a.csv line 3: not valid CSV"),
        ("a.xlsx", "PK", "unknown kind of data file '.xlsx'; use .jsonl, .json, .csv"),
    ],
)
def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, name: str, content: str | bytes, expected: str
) -> None:
    with pytest.raises(InputError) as error:
        read_rows(write(tmp_path / name, content))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(InputError, match="no such data file"):
            read_rows(path)
