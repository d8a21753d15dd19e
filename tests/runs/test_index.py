"""The list of runs: what builds wrote to, as far as it is still there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgepeft.errors import EdgepeftError, InputError
from edgepeft.runs.folder import RunFolder
from edgepeft.runs.index import all_runs, delete_run, differences, remember_run


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("EDGEPEFT_STATE", str(tmp_path / "state"))
    return tmp_path / "state" / "runs.json"


def write_run(path: Path, **facts: Any) -> Path:
    path.mkdir(parents=True)
    record = {"name": path.name, "state": "done", "started": "2026-01-01T00:00:00", **facts}
    (path / "run.json").write_text(json.dumps(record))
    return path


def test_runs_are_listed_newest_first_and_once(tmp_path: Path) -> None:
    old = write_run(tmp_path / "old", started="2026-01-01T00:00:00+00:00")
    new = write_run(tmp_path / "new", started="2026-02-01T00:00:00+00:00")
    for path in (new, old, new):
        remember_run(path)
    assert [run["path"] for run in all_runs()] == [str(new), str(old)]
    assert [run["name"] for run in all_runs()] == ["new", "old"]


def test_a_folder_of_runs_is_looked_through_as_well(tmp_path: Path) -> None:
    remember_run(write_run(tmp_path / "runs" / "known"))
    write_run(tmp_path / "runs" / "unknown")
    assert len(all_runs()) == 1
    assert {run["name"] for run in all_runs(tmp_path / "runs")} == {"known", "unknown"}
    assert len(all_runs(tmp_path / "nowhere")) == 1


def test_runs_that_are_gone_or_unreadable_are_left_out(tmp_path: Path) -> None:
    remember_run(tmp_path / "gone")
    for name, content in (("damaged", "{"), ("list", "[]"), ("binary", "\x00")):
        path = tmp_path / name
        path.mkdir()
        (path / "run.json").write_text(content)
        remember_run(path)
    assert all_runs() == []


def test_a_run_whose_process_is_gone_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    for name, facts in (
        ("alive", {"state": "running", "pid": os.getpid()}),
        ("init", {"state": "running", "pid": 1}),
        ("gone", {"state": "running", "pid": ended.pid}),
        ("nameless", {"state": "running"}),
        ("done", {"state": "done", "pid": ended.pid}),
    ):
        remember_run(write_run(tmp_path / name, **facts))
    assert {run["name"]: run["state"] for run in all_runs()} == {
        "alive": "running",
        "init": "running",
        "gone": "killed",
        "nameless": "killed",
        "done": "done",
    }


@pytest.mark.parametrize("content", ["{", "{}", "3", "\x00"])
def test_a_damaged_index_is_begun_anew(tmp_path: Path, state: Path, content: str) -> None:
    state.parent.mkdir()
    state.write_text(content)
    assert all_runs() == []
    remember_run(write_run(tmp_path / "run"))
    assert [run["name"] for run in all_runs()] == ["run"]


def test_an_index_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEPEFT_STATE", str(tmp_path / "file" / "below"))
    remember_run(write_run(tmp_path / "run"))
    assert all_runs() == []


def test_the_index_does_not_grow_for_ever(tmp_path: Path, state: Path) -> None:
    state.parent.mkdir()
    state.write_text(json.dumps([str(tmp_path / str(number)) for number in range(600)]))
    remember_run(write_run(tmp_path / "run"))
    kept = json.loads(state.read_text())
    assert len(kept) == 500
    assert kept[-1] == str(tmp_path / "run")


def test_two_runs_are_compared_by_what_their_recipes_differ_in(tmp_path: Path) -> None:
    for name, rank in (("one", 4), ("other", 8)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.resolved.yaml").write_text(
            f"model: m\nmethod: {{name: qlora, rank: {rank}}}\n"
        )
    with (tmp_path / "other" / "recipe.resolved.yaml").open("a") as stream:
        stream.write("adapter: a\n")
    assert differences(tmp_path / "one", tmp_path / "other") == [
        ("method.rank", 4, 8),
        ("adapter", None, "a"),
    ]
    with pytest.raises(InputError, match="no recipe to compare"):
        differences(tmp_path / "one", tmp_path / "gone")


def test_only_a_run_that_is_not_at_work_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    with pytest.raises(InputError, match="not the folder of a run"):
        delete_run(tmp_path / "keep")
    run = tmp_path / "run"
    (run / "bundles" / "x").mkdir(parents=True)
    (run / "run.json").write_text('{"state": "done"}')
    with RunFolder(run).locked(), pytest.raises(EdgepeftError, match="at work in this folder"):
        delete_run(run)
    assert (run / "bundles" / "x").is_dir()
    delete_run(run)
    assert not run.exists()
