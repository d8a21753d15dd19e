"""Test rows held out of the training rows: none asked on both sides, whatever the order of the file."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from edgepeft.config.sections import Data
from edgepeft.data.formats import read_rows
from edgepeft.data.held_out import HeldOut, hold_out, usual_share
from edgepeft.data.rows import Row
from edgepeft.data.written_rows import as_jsonl
from edgepeft.errors import InputError


def _asked(row: Row) -> str:
    return " ".join(row.prompt_messages[-1]["content"].split())


def _rows(folder: Path, questions: list[str]) -> list[Row]:
    path = folder / "rows.jsonl"
    lines = [
        json.dumps({"prompt": question, "completion": f"answer {number}"})
        for number, question in enumerate(questions)
    ]
    path.write_text("\n".join(lines))
    return read_rows(path)


@pytest.mark.parametrize(
    ("text", "total", "count"),
    [("10%", 600, 60), (" 12.5 % ", 80, 10), ("7", 600, 7), ("1%", 20, 1), ("99%", 100, 99)],
)
def test_a_share_or_a_number_of_rows(text: str, total: int, count: int) -> None:
    asked = HeldOut.parse(text)
    assert asked is not None
    assert asked.count(total) == count


@pytest.mark.parametrize(
    ("rows", "trained", "carried"),
    [
        *((10, "20%", None), (99, "20%", "50%"), (100, "10%", "50%"), (400, "10%", "50%")),
        *((2000, "10%", "200"), (2001, "200", "200")),
    ],
)
def test_as_much_is_held_out_as_the_rows_allow(
    rows: int, trained: str, carried: str | None
) -> None:
    assert usual_share(rows, carried=False) == trained
    assert usual_share(rows, carried=True) == carried


@pytest.mark.parametrize("text", ["test.jsonl", "rows/10%.csv", "10%/test.csv", "./50", "ten"])
def test_other_texts_name_files(text: str) -> None:
    assert HeldOut.parse(text) is None


@pytest.mark.parametrize(
    "text", ["0%", "100%", "0", "-5", "-10%", "250%", "0.1", "2.5", "9" * 400, "9" * 400 + "%"]
)
def test_what_leaves_one_side_empty_is_refused_with_the_recipe(text: str) -> None:
    with pytest.raises(ValueError, match=r"as 10%|such as 10%"):
        Data(test=text)


def test_numbers_of_yaml_are_numbers_of_rows() -> None:
    assert Data.model_validate({"test": 50}).held_out == HeldOut(rows=50)
    with pytest.raises(ValueError, match="such as 10%"):
        Data.model_validate({"test": 0.1})
    with pytest.raises(ValueError, match="test"):
        Data.model_validate({"test": True})


def test_nothing_is_asked_on_both_sides(tmp_path: Path) -> None:
    questions = [f"question  {number % 70}" for number in range(200)]
    questions += [question.replace("  ", " ") for question in questions[:40]]
    rows = _rows(tmp_path, questions)
    training, test = hold_out(rows, HeldOut(fraction=0.2), 0, "20%")
    assert {*map(_asked, training)}.isdisjoint(map(_asked, test))
    assert len(training) + len(test) == len(rows)
    assert 44 <= len(test) <= 48


def test_a_split_follows_the_rows_and_the_seed_not_their_order(tmp_path: Path) -> None:
    questions = [f"question {number}" for number in range(100)]
    share = HeldOut(fraction=0.1)
    first = hold_out(_rows(tmp_path, questions), share, 0, "10%")[1]
    random.Random(1).shuffle(questions)
    rows = _rows(tmp_path, questions)
    assert [*map(_asked, hold_out(rows, share, 0, "10%")[1])] == [*map(_asked, first)]
    assert {*map(_asked, hold_out(rows, share, 1, "10%")[1])} != {*map(_asked, first)}
    # Ordered by chance, so that the first rows of a sorted file stand for all of it.
    numbers = [int(_asked(row).split()[1]) for row in first]
    assert numbers != sorted(numbers)


def test_rows_that_all_ask_the_same_cannot_be_shared_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ask the same"):
        hold_out(_rows(tmp_path, ["tell me a joke"] * 30), HeldOut(fraction=0.1), 0, "10%")
    with pytest.raises(InputError, match="leaves none to learn"):
        hold_out(_rows(tmp_path, ["a", "b"]), HeldOut(rows=2), 0, "2")


@pytest.mark.parametrize(
    "record",
    [
        {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "no", "weight": 0},
                {"role": "user", "content": "b"},
                {"role": "assistant", "content": "yes"},
            ]
        },
        {"prompt": "p", "completion": "c"},
        {"instruction": "i", "input": "x", "output": "o"},
        {"prompt": "p", "chosen": "good", "rejected": "bad"},
        {"text": "some", "label": "kind"},
        {"tokens": ["a", "lemon"], "tags": ["O", "B-THING"]},
        {"anchor": "a", "positive": "b"},
        {"text": "just a text, with ünïcode"},
    ],
)
def test_written_rows_read_back_as_they_were(record: dict[str, object], tmp_path: Path) -> None:
    given, written = tmp_path / "given.jsonl", tmp_path / "written.jsonl"
    given.write_text(json.dumps(record) + "\n" + json.dumps(record))
    rows = read_rows(given)
    written.write_text(as_jsonl(rows))
    again = read_rows(written)
    assert [_without_place(row) for row in again] == [_without_place(row) for row in rows]


def _without_place(row: Row) -> dict[str, object]:
    return {key: value for key, value in vars(row).items() if key != "where"}
