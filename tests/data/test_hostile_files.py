"""Data files that are no files, never end, lie about themselves or come to more than any machine has."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgepeft.data import arrow_files, record_files
from edgepeft.data.formats import read_file, read_rows, read_text
from edgepeft.data.prompt_rows import read_prompts
from edgepeft.errors import InputError, MissingError

GOOD = '{"prompt": "a", "completion": "b"}\n'
SPLIT = [{"prompt": "a", "completion": "b", "id": 1}, {"prompt": "c", "completion": "d", "id": 2}]


def refused(path: Path, said: str) -> None:
    with pytest.raises(InputError) as error:
        read_rows(path)
    assert said in str(error.value)
    assert path.name in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    refused(tmp_path / "pipe.jsonl", "is a pipe, not a file")
    for suffix in ("jsonl", "json", "csv", "tsv", "parquet"):
        (tmp_path / f"zero.{suffix}").symlink_to("/dev/zero")
        refused(tmp_path / f"zero.{suffix}", "is a device, not a file")
    (tmp_path / "folder.jsonl").mkdir()
    refused(
        tmp_path / "folder.jsonl", "no such data file, but a folder; name one of the files in it"
    )
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    refused(tmp_path / "loop.jsonl", "")
    with pytest.raises(InputError, match=r"data\.generic: .*is a device"):
        read_text(Path("/dev/zero"), "data.generic")
    with pytest.raises(InputError, match=r"data\.generic: .*no such file"):
        read_text(tmp_path / "none.txt", "data.generic")


def test_files_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sparse files of a terabyte: what they hold is never read."""
    for suffix in ("json", "csv", "tsv"):
        path = tmp_path / f"huge.{suffix}"
        with path.open("wb") as stream:
            stream.truncate(10**12)
        refused(path, "larger than 1000000000 bytes")
    path = tmp_path / "huge.jsonl"
    with path.open("wb") as stream:
        stream.write(GOOD.encode())
        stream.truncate(10**12)
    refused(path, "huge.jsonl line 2: has more than 64000000 bytes")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", GOOD + '{"prompt": "a", "prompt": "b"}\n', "line 2: not valid JSON (the key 'prompt' is"),
        ("a.json", '[{"a": {"b": 1, "b": 2}}]', "the key 'b' is given twice"),
        ("a.jsonl", GOOD + '{"prompt": NaN, "completion": "b"}\n', "line 2: no prompt; every row needs one"),
        ("a.jsonl", GOOD + '{"prompt": "a", "completion": Infinity}\n', "line 2: no completion"),
        ("a.jsonl", GOOD + '{"prompt": ' + "[" * 50_000 + "\n", "line 2: not valid JSON (nested too"),
        ("a.jsonl", GOOD + '{"prompt": ' + "9" * 5_000 + "}\n", "line 2: not valid JSON"),
        ("a.jsonl", GOOD + '{"prompt": "a", "completion": "\\ud800"}\n', "line 2: completion holds half of a"),
        ("a.jsonl", GOOD + '{"prompt": "\\udc00b", "completion": "b"}\n', "line 2: prompt holds half of a"),
        ("a.jsonl", GOOD.encode() + b'{"prompt": "\xff", "completion": "b"}\n', "line 2: not UTF-8"),
        ("a.jsonl", GOOD.encode("utf-16"), "line 1: not UTF-8"),
        ("a.csv", b"prompt,completion\na,b\n\xff,b\n", "line 3: not UTF-8"),
        ("a.csv", 'prompt,completion\na,"b\nc,d\n', "not valid CSV"),
        ("a.jsonl", "\x00" * 9, "line 1: not valid JSON"),
        ("a.jsonl", "[]\n", "line 1: a row should be an object"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(
    tmp_path: Path, name: str, content: str | bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(path, said)


def test_half_characters_are_named_wherever_they_stand(tmp_path: Path) -> None:
    half = "a\\ud83d"
    for record in (
        '{"messages": [{"role": "user", "content": "HALF"}, {"role": "assistant", "content": "b"}]}',
        '{"messages": [{"role": "user", "content": [{"type": "text", "text": "HALF"}]}, '
        '{"role": "assistant", "content": "b"}]}',
        '{"prompt": "a", "completion": "b", "system": "HALF"}',
        '{"prompt": "a", "completion": "b", "history": [["HALF", "b"]]}',
        '{"prompt": "a", "chosen": "b", "rejected": "HALF"}',
        '{"text": "HALF"}',
        '{"tokens": ["HALF"], "tags": ["O"]}',
        '{"anchor": "HALF", "positive": "b"}',
    ):
        path = tmp_path / "a.jsonl"
        path.write_text(record.replace("HALF", half) + "\n")
        refused(path, "a.jsonl line 1: ")
        refused(path, "holds half of a character")


def test_what_is_no_number_is_missing_where_nobody_needs_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a", "completion": "b", "score": NaN, "tools": NaN}\n')
    assert read_file(path).usage.warnings() == []


def test_byte_order_marks(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.json", "a.csv"):
        text = {"a.csv": "prompt,completion\na,b\n", "a.json": f"[{GOOD}]"}.get(name, GOOD)
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert len(read_rows(tmp_path / name)) == 1


@pytest.fixture
def short_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lines of 100 bytes at most; Python's limit on cells is the whole process's, and is put back."""
    before = csv.field_size_limit()
    monkeypatch.setattr(record_files, "MAX_LINE", 100)
    yield
    csv.field_size_limit(before)


def test_long_lines(tmp_path: Path, short_lines: None) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(GOOD + json.dumps({"prompt": "a" * 200, "completion": "b"}) + "\n")
    refused(path, "line 2: has more than 100 bytes; a row of JSON Lines is one line")
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion\n" + "a" * 200 + ",b\n")
    refused(path, "line 2: not valid CSV (field larger than field limit (100))")


# Arrow's files.


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()

    def save(rows: Any, name: str = "saved") -> Path:
        made = datasets.Dataset.from_list(rows)
        made.save_to_disk(str(tmp_path / name))
        return tmp_path / name

    return save


def test_a_saved_dataset_is_read(saved: Callable[..., Path]) -> None:
    found = read_file(saved(SPLIT))
    assert [row.completion for row in found.rows] == ["b", "d"]
    assert found.rows[1].where == "saved row 2"
    assert (found.format, found.columns) == ("dataset", ["prompt", "completion", "id"])


def test_a_saved_dataset_of_several_splits_is_named(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list(SPLIT)
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(str(tmp_path / "both"))
    refused(tmp_path / "both", "holds the splits train, test; name one of them, as both/train")
    assert len(read_rows(tmp_path / "both" / "test")) == 2


def test_saved_datasets_that_name_other_files(saved: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "secret.arrow").write_bytes(b"x")
    folder = saved(SPLIT)
    for state, said in (
        ({"_data_files": [{"filename": "../secret.arrow"}]}, "names files that are not beside it"),
        ({"_data_files": [{"filename": "absent.arrow"}]}, "absent.arrow: is missing"),
        ({"_data_files": [{"filename": "dataset_info.json"}]}, "not readable as Arrow"),
        ({"_data_files": 3}, "names no data files"),
        ({"_data_files": [], "_indices_files": [{"filename": "i"}]}, "flatten_indices()"),
        ([], "not a JSON object"),
    ):
        (folder / "state.json").write_text(json.dumps(state))
        refused(folder, said)
    (folder / "state.json").unlink()
    os.mkfifo(folder / "state.json")
    refused(folder, "no such data file, but a folder")


def test_arrow_needs_pyarrow(saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(SPLIT)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingError, match=r"pip install 'edgepeft\[train\]'"):
        read_rows(folder)


def test_parquet_that_comes_to_more_than_it_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def write(name: str, **columns: Any) -> Path:
        parquet.write_table(pa.table(columns), tmp_path / name, compression="zstd")
        return tmp_path / name

    monkeypatch.setattr(arrow_files, "MAX_MADE", 10**6)
    one = "z" * 50_000
    shared = write("shared.parquet", prompt=[one] * 5_000, completion=["y"] * 5_000)
    assert shared.stat().st_size < 50_000  # the text is stored once
    refused(shared, "comes to more than")
    nested = write("nested.parquet", messages=[[{"role": "user", "content": one}]] * 5_000)
    refused(nested, "comes to more than")
    large = write("large.parquet", prompt=[f"{n}" + "z" * 9_000 for n in range(900)])
    refused(large, "comes to")
    monkeypatch.setattr(arrow_files, "MAX_ROWS", 10)
    refused(write("rows.parquet", prompt=["a"] * 99), "has 99 rows, more than the 10")
    monkeypatch.setattr(arrow_files, "MAX_CELL", 100)
    refused(write("cell.parquet", prompt=["a" * 200]), "cell.parquet row 1: holds more than 100")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1" + b"\0" * 100 + b"PAR1")
    refused(tmp_path / "bad.parquet", "not readable as Parquet")


# Files of prompts.


def test_files_of_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '{"prompt": "a", "completion": "left out", "score": 1, "rating": 1}\n'
        '{"prompt": "b", "system": "S"}\n'
        '{"messages": [{"role": "user", "content": [{"type": "text", "text": "c"}]}], "id": 3}\n'
        '{"messages": [{"role": "user", "content": "d"}, {"role": "assistant", "content": "e"}]}\n'
    )
    prompts, warnings = read_prompts(path)

    def user(text: str) -> dict[str, str]:
        return {"role": "user", "content": text}

    assert [asked for _, asked in prompts] == [
        "a",
        [{"role": "system", "content": "S"}, user("b")],
        [user("c")],
        [user("d")],
    ]
    assert warnings == [f"{path}: not used: rating (every row counts the same)"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": "a\\ud800b"}', "line 1: prompt holds half of a character"),
        ('{"messages": [{"role": "user", "content": "\\udfff"}]}', "line 1: messages[1] content holds half"),
        ('{"prompt": "a", "system": "\\ud800"}', "line 1: system holds half"),
        ('{"prompt": "a", "tools": [{}]}', "line 1: tools[1]: should define a function"),
        ('{"prompt": "a", "images": ["b.png"]}', "line 1: images: edgepeft learns from text"),
        ('{"messages": [{"role": "tool", "content": 1}]}', "line 1: messages[1] needs role and content"),
        ('{"prompt": "a", "prompt": "b"}', "line 1: not JSON (the key 'prompt' is given twice)"),
        ('{"prompt": "a", "text": "b"}', 'line 1: must have "prompt"'),
    ],
)  # fmt: skip
def test_prompts_that_cannot_be_asked(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(InputError) as error:
        read_prompts(path)
    assert said in str(error.value)


def test_prompts_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepeft.data.prompt_rows.MAX_BYTES", 10**6)
    with pytest.raises(InputError, match="has more than 1000000 bytes"):
        read_prompts(Path("/dev/zero"))
