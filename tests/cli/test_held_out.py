"""A build that holds its test rows out of the training rows does what one with the two files does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file

from tests.command import edgepeft, write_recipe
from tests.conftest import ModelMaker
from tests.tiny import write_tiny_data

_MEASURED = {"exact_match", "reference_exact_match", "task_kl", "generic_kl", "rows"}


def _built(recipe: Path, run: Path) -> dict[str, Any]:
    done = edgepeft("build", recipe, "--out", run, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_every_stage_makes_the_split_that_the_run_shows(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    train, _ = write_tiny_data(tmp_path)
    recipe = write_recipe(tmp_path / "r.yaml", tiny_model("llama"), (train, train))
    raw = yaml.safe_load(recipe.read_text())
    raw["data"] = {"train": str(train), "test": "25%"}
    raw["targets"] = ["cpu-int4"]
    recipe.write_text(yaml.safe_dump(raw))
    shared = _built(recipe, tmp_path / "shared")
    rows = tmp_path / "shared/rows"
    assert len((rows / "train.jsonl").read_text().splitlines()) == 48
    assert len((rows / "test.jsonl").read_text().splitlines()) == 16
    raw["data"] = {"train": str(rows / "train.jsonl"), "test": str(rows / "test.jsonl")}
    recipe.write_text(yaml.safe_dump(raw))
    apart = _built(recipe, tmp_path / "apart")
    ours, theirs = (
        load_file(Path(built["adapter"]) / "adapter_model.safetensors") for built in (shared, apart)
    )
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    measures = [
        {key: value for key, value in built["bundles"][0]["fidelity"].items() if key in _MEASURED}
        for built in (shared, apart)
    ]
    assert measures[0] == measures[1]
    assert measures[0].keys() == _MEASURED


def test_a_share_of_nothing_is_told_before_anything_runs(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    train, _ = write_tiny_data(tmp_path, rows=4)
    recipe = write_recipe(tmp_path / "r.yaml", tiny_model("llama"), (train, train))
    for share, said in (("0%", "leaves no rows to measure on"), ("9", "leaves none to learn")):
        done = edgepeft("build", recipe, "--out", tmp_path / "run", "--set", f"data.test={share}")
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    alone = ("--set", "data.test=10%", "--set", "data.train=null", "--set", "adapter=x")
    done = edgepeft("plan", recipe, *alone)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) <= 2
    assert not (tmp_path / "run").exists()
