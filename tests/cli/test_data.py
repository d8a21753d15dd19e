"""``edgepeft data --json`` on rows whose columns nobody has named yet, and on rows that are held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command import edgepeft
from tests.conftest import ModelMaker
from tests.tiny import write_tiny_data


def _recipe(folder: Path, model: Path, **data: Any) -> Path:
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump({"model": str(model), "data": data}))
    return path


@pytest.mark.parametrize(
    ("text", "guess", "needed"),
    [
        (
            "Utterance,Intent\nwhere is it,lost card\nwho are you,other\n",
            {"prompt": "Utterance", "completion": "Intent"},
            ["prompt", "completion"],
        ),
        ("id,body\n1,some text\n2,more text\n", {}, ["prompt", "completion"]),
    ],
)
def test_columns_that_do_not_fit_are_listed_beside_the_error(
    text: str, guess: dict[str, str], needed: list[str], tiny_model: ModelMaker, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text(text)
    recipe = _recipe(tmp_path, tiny_model("llama"), train="rows.csv", test="50%")
    plain = edgepeft("data", recipe)
    found = edgepeft("data", recipe, "--json")
    assert (plain.returncode, plain.stdout) == (2, "")
    assert (found.returncode, found.stderr) == (2, plain.stderr)
    facts = json.loads(found.stdout)
    assert "match no known layout" in facts["error"]
    assert facts["error"] in plain.stderr
    assert facts["file"] == {"columns": text.splitlines()[0].split(","), "rows": 2}
    assert (facts["guess"], facts["needed"]) == (guess, needed)
    if guess:
        named = _recipe(
            tmp_path, tiny_model("llama"), train="rows.csv", test="50%", columns=facts["guess"]
        )
        assert edgepeft("data", named).returncode == 0


def test_names_that_fit_are_not_to_be_chosen(tiny_model: ModelMaker, tmp_path: Path) -> None:
    write_tiny_data(tmp_path)
    recipe = _recipe(tmp_path, tiny_model("llama"), train="train.jsonl", test="64")
    found = edgepeft("data", recipe, "--json")
    facts = json.loads(found.stdout)
    assert found.returncode == 2
    assert "leaves none to learn" in facts["error"]
    assert (facts["guess"], facts["needed"], facts["file"]["rows"]) == ({}, [], 64)


def test_a_file_that_is_missing_leaves_nothing_to_choose(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    found = edgepeft("data", _recipe(tmp_path, tiny_model("llama"), train="no.csv"), "--json")
    assert (found.returncode, found.stdout) == (2, "")


def test_rows_that_were_asked_to_be_held_out_are_no_warning(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    write_tiny_data(tmp_path)
    recipe = _recipe(tmp_path, tiny_model("llama"), train="train.jsonl", test="25%")
    facts = json.loads(edgepeft("data", recipe, "--json").stdout)
    assert facts["notes"] == ["data.test: 16 rows of data.train are held out"]
    assert facts["report"]["test_rows"] == 16
    assert not any("held out" in warning for warning in facts["report"]["warnings"])
