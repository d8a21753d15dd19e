"""From a model and a file of rows to a recipe, and to a bundle without one."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgepeft.config.loader import load_recipe
from edgepeft.config.schema import SCHEMA_FILE, json_schema
from tests.command import edgepeft, on_terminal
from tests.conftest import ModelMaker
from tests.tiny import write_tiny_data

QUICK = ("--set", "gates={max_exact_match_drop: null, max_task_kl: null, min_reference_gain: null}")


def _csv(folder: Path, rows: int = 64) -> Path:
    train, _ = write_tiny_data(folder, rows)
    path = folder / "support.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ticket_id", "Question", "Reply"])
        for number, line in enumerate(train.read_text().splitlines()):
            row = json.loads(line)
            writer.writerow([f"T-{number}", row["prompt"], row["completion"]])
    return path


def _ran(*arguments: object, cwd: Path) -> tuple[int, str, str]:
    done = edgepeft(*arguments, cwd=cwd)
    return done.returncode, done.stdout, done.stderr


def test_a_recipe_is_written_for_a_model_and_rows(tiny_model: ModelMaker, tmp_path: Path) -> None:
    _csv(tmp_path)
    model = tiny_model("llama")
    status, told, errors = _ran(
        "init", "--model", model, "--data", "support.csv", "--steps", 4, cwd=tmp_path
    )
    assert status == 0, errors
    assert "64 rows; Question is the prompt, Reply is the completion" in told
    text = (tmp_path / "support.yaml").read_text()
    schema = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert schema == SCHEMA_FILE.as_uri()
    raw = yaml.safe_load(text)
    assert (tmp_path / raw.pop("model")).resolve() == model.resolve()
    assert raw == {
        "data": {
            "train": "support.csv",
            "test": "20%",
            "columns": {"prompt": "Question", "completion": "Reply"},
        },
        "method": {"name": "qlora"},
        "training": {"max_steps": 4},
        "targets": ["cpu-int4"],
    }
    planned = _ran("plan", "support.yaml", "--json", cwd=tmp_path)
    facts = json.loads(planned[1])
    assert (facts["train_rows"], facts["test_rows"], facts["steps"]) == (51, 13, 4)
    again = _ran("init", "--model", model, "--data", "support.csv", cwd=tmp_path)
    assert again[0] == 2
    assert "is there already" in again[2]
    assert (tmp_path / "support.yaml").read_text() == text


def test_the_schema_that_is_shipped_is_todays() -> None:
    assert json.loads(SCHEMA_FILE.read_text()) == json_schema()


def test_a_build_needs_no_recipe(tiny_model: ModelMaker, tmp_path: Path) -> None:
    _csv(tmp_path)
    model = tiny_model("llama")
    options = ("--model", model, "--data", "support.csv", "--target", "cpu-int8", "--steps", 4)
    status, told, errors = _ran("build", *options, *QUICK, "--json", cwd=tmp_path)
    assert status == 0, errors
    assert "Question is the prompt" in errors
    built = json.loads(told)
    run = tmp_path / "runs/support"
    assert built["run"] == str(run)
    assert [bundle["target"] for bundle in built["bundles"]] == ["cpu-int8"]
    assert len((run / "rows/test.jsonl").read_text().splitlines()) == 13
    # What was decided is a recipe that others can build.
    kept = load_recipe(run / "recipe.yaml").recipe
    assert kept.data.columns == {"prompt": "Question", "completion": "Reply"}
    again = _ran("build", *options, *QUICK, "--json", cwd=tmp_path)
    assert len(json.loads(again[1])["reused"]) > 3
    other = _ran(
        *("build", "--model", tiny_model("qwen2"), "--data", "support.csv", *QUICK), cwd=tmp_path
    )
    assert other[0] == 2
    assert "is the run of another recipe" in other[2]
    _carried(model, Path(built["adapter"]), tmp_path)


def _carried(model: Path, adapter: Path, folder: Path) -> None:
    """An adapter that exists goes to a measured bundle in one command."""
    status, told, errors = _ran(
        *("build", "--model", model, "--data", "support.csv", "--adapter", adapter, *QUICK),
        *("--out", "runs/carried", "--json"),
        cwd=folder,
    )
    assert status == 0, errors
    built: dict[str, Any] = json.loads(told)
    assert built["adapter"] == str(adapter)
    assert built["bundles"][0]["fidelity"]["rows"] == 32


def test_two_recipes_of_one_name_do_not_share_a_run(tiny_model: ModelMaker, tmp_path: Path) -> None:
    _csv(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made = _ran(
            *("init", "--model", tiny_model("llama"), "--data", "support.csv", "--steps", 1),
            *("--out", f"{name}/recipe.yaml"),
            cwd=tmp_path,
        )
        assert made[0] == 0, made[2]
    assert _ran("train", "a/recipe.yaml", "--progress", "none", cwd=tmp_path)[0] == 0
    refused = _ran("train", "b/recipe.yaml", "--progress", "none", cwd=tmp_path)
    assert refused[0] == 2
    assert "a/recipe.yaml" in refused[2]
    assert _ran("train", "a/recipe.yaml", "--progress", "none", cwd=tmp_path)[0] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--model", "MODEL", "--data", "nowhere.csv"), "nowhere.csv: no such data file"),
        (("--model", "nowhere", "--data", "support.csv"), "model: nowhere"),
        (("--data", "support.csv"), "--model: is missing"),
        (("--model", "MODEL"), "--data: is missing"),
        (
            ("--model", "MODEL", "--data", "support.csv", "--test", "100%"),
            "leaves no rows to learn",
        ),
        (("--model", "MODEL", "--data", "support.csv", "--test", "0%"), "leaves no rows"),
        (("--model", "MODEL", "--data", "one.csv"), "one.csv: has one column of text (body)"),
        (
            ("--model", "MODEL", "--data", "notes.csv"),
            "has one column of text (said), beside note, taken by its name for something else; it needs",
        ),
        (("--model", "MODEL", "--data", "support.csv", "--target", "tpu"), "tpu"),
        (("--model", "MODEL", "--data", "support.csv", "--out", "."), "is a folder"),
    ],
)
def test_what_cannot_become_a_recipe_is_told_in_one_line(
    options: tuple[str, ...], said: str, tiny_model: ModelMaker, tmp_path: Path
) -> None:
    _csv(tmp_path)
    (tmp_path / "one.csv").write_text("id,body\n1,some text\n2,more text\n")
    (tmp_path / "notes.csv").write_text("note,said\na word,some text\nof mine,more text\n")
    given = [str(tiny_model("llama")) if one == "MODEL" else one for one in options]
    status, _, errors = _ran("init", *given, cwd=tmp_path)
    assert status == 2, errors
    (line,) = errors.splitlines()
    assert said in line
    assert not list(tmp_path.glob("*.yaml"))


def test_in_a_terminal_it_asks(tiny_model: ModelMaker, tmp_path: Path) -> None:
    _csv(tmp_path)
    status, shown = on_terminal(
        *("init", "--out", tmp_path / "asked.yaml"),
        answers=[str(tiny_model("llama")), str(tmp_path / "support.csv"), ""],
    )
    assert status == 0, shown
    assert yaml.safe_load((tmp_path / "asked.yaml").read_text())["targets"] == ["cpu-int4"]
