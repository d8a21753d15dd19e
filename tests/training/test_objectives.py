"""Rows as each objective learns them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from edgepeft.data.formats import read_rows
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Row
from edgepeft.errors import InputError
from edgepeft.training.objectives import encode_pairs, encode_texts
from tests.conftest import ModelMaker


@pytest.fixture
def prompter(tiny_model: ModelMaker) -> Prompter:
    return Prompter.from_folder(tiny_model("llama"))


def rows(folder: Path, *records: Mapping[str, object]) -> list[Row]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_rows(path)


def test_long_texts_are_learned_to_their_end(prompter: Prompter, tmp_path: Path) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 20
    (row,) = rows(tmp_path, {"text": text})
    windows = encode_texts([row], prompter, 32)
    assert [token for window in windows for token in window.ids] == prompter.row(row).ids
    assert max(len(window.ids) for window in windows) == 32
    assert all(all(window.mask) for window in windows)


def test_pairs_share_their_prompt_and_end_as_answers_do(prompter: Prompter, tmp_path: Path) -> None:
    given = rows(tmp_path, {"prompt": "the sky?", "chosen": "blue", "rejected": "green"})
    (pair,) = encode_pairs(given, prompter, 128)
    prompt, chosen = prompter.split(given[0])
    assert (pair["prompt_ids"], pair["chosen_ids"]) == (prompt, chosen)
    assert prompter.decode(pair["rejected_ids"]).strip() == "green"
    assert pair["rejected_ids"][-1] in prompter.stop_ids


def test_rows_that_an_objective_cannot_learn(prompter: Prompter, tmp_path: Path) -> None:
    asked = rows(tmp_path, {"prompt": "a", "completion": "b"})
    with pytest.raises(InputError, match=r"rows\.jsonl line 1: training\.objective: text learns"):
        encode_texts(asked, prompter, 32)
    with pytest.raises(InputError, match=r"needs prompt, chosen and rejected in every row"):
        encode_pairs(asked, prompter, 32)
    pairs = rows(tmp_path, {"prompt": "word " * 90, "chosen": "b", "rejected": "c"})
    with pytest.raises(InputError, match=r"data\.max_length: no preference row fits into 32"):
        encode_pairs(pairs, prompter, 32)
    with pytest.raises(InputError, match=r"line 1: the rejected answer is empty"):
        rows(tmp_path, {"prompt": "a", "chosen": "b", "rejected": " "})
    whole = {"prompt": "a", "chosen": "b", "rejected": "c"}
    with pytest.raises(InputError, match=r"line 2: no rejected"):
        rows(tmp_path, whole, {"prompt": "a", "chosen": "b"})
