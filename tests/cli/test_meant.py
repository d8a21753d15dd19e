"""A path that is something else than the command takes: what was meant is done, or its command is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Built
from tests.command import edgepeft, start


@pytest.fixture
def run(built: Built, tmp_path: Path) -> Path:
    """A run with one bundle: a copy of the other's record and of its last bundle."""
    folder = tmp_path / "run"
    (folder / "bundles").mkdir(parents=True)
    shutil.copy(built.out / "run.json", folder)
    shutil.copytree(built.result["bundles"][1]["path"], folder / "bundles" / "cpu-fp32")
    return folder


def test_a_run_with_one_bundle_is_asked_as_that_bundle(run: Path) -> None:
    asked = ("hello", "--max-new-tokens", "2", "--json")
    by_run = edgepeft("run", run, *asked)
    assert by_run.returncode == 0, by_run.stderr
    by_bundle = edgepeft("run", run / "bundles" / "cpu-fp32", *asked)
    assert by_run.stdout.partition('"seconds"')[0] == by_bundle.stdout.partition('"seconds"')[0]
    serving = start("serve", run, "--port", "0")
    try:
        assert serving.stdout is not None
        assert serving.stdout.readline().startswith("http://127.0.0.1:")
    finally:
        serving.terminate()
        serving.wait(timeout=30)


def test_a_run_with_several_bundles_names_them(built: Built) -> None:
    done = edgepeft("run", built.out, "hello")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "a run with 2 bundles" in done.stderr
    for bundle in built.result["bundles"]:
        assert bundle["path"] in done.stderr


def test_a_run_without_bundles_names_the_build(run: Path) -> None:
    shutil.rmtree(run / "bundles")
    done = edgepeft("run", run, "hello")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"edgepeft build {run}" in done.stderr


def test_adapters_in_a_bundle_are_no_bundles(run: Path) -> None:
    adapter = run / "bundles" / "cpu-fp32" / "adapters" / "mine"
    adapter.mkdir(parents=True)
    (adapter / "edgepeft.json").write_text('{"kind": "adapter"}')
    done = edgepeft("run", run, "hello", "--max-new-tokens", "1")
    assert "several" not in done.stderr
    assert "bundles; give one" not in done.stderr


@pytest.mark.parametrize("command", ["build", "plan", "train"])
def test_what_is_no_recipe_is_named_with_the_command_for_it(built: Built, command: str) -> None:
    model, adapter = built.recipe.parent / "model", built.result["adapter"]
    bundle = built.result["bundles"][0]["path"]
    for path, kind, mend in (
        (model, "a model", f"edgepeft build --model {model} --data ROWS"),
        (adapter, "an adapter", f"edgepeft build RECIPE --adapter {adapter}"),
        (bundle, "a bundle", f"edgepeft verify {bundle}"),
    ):
        done = edgepeft(command, path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert f"{path}: is {kind}, not a recipe; " in done.stderr
        assert mend in done.stderr


def test_a_gguf_file_is_no_recipe(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF\x03\x00")
    done = edgepeft("build", file)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{file}: is a model, not a recipe; edgepeft build --model {file} --data" in done.stderr


@pytest.mark.parametrize("command", ["data", "plan"])
def test_rows_are_no_recipe(tmp_path: Path, command: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_text('question,answer\n"a: b","- c"\n')
    done = edgepeft(command, file)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{file}: is a file of rows, not a recipe; edgepeft init --model" in done.stderr


def test_a_recipe_and_rows_are_not_inspected(built: Built) -> None:
    done = edgepeft("inspect", built.recipe)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"edgepeft plan {built.recipe}" in done.stderr
    rows = edgepeft("inspect", built.recipe.parent / "data" / "train.jsonl")
    assert (rows.returncode, rows.stderr.count("\n")) == (2, 1)
    assert "is a file of rows; edgepeft data RECIPE" in rows.stderr
