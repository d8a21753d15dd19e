"""A build that is killed, or refused, at any operation on files: nothing is half-done, nothing is left over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgepeft.runs.folder import is_finished, read_manifest
from tests.command import edgepeft
from tests.conftest import ModelMaker
from tests.faulty import environment
from tests.stages import write_adapter


@pytest.fixture
def arguments(tiny_model: ModelMaker, tmp_path: Path) -> list[object]:
    """The shortest command with stages: a merge without a recipe."""
    model = tiny_model("llama")
    adapter = write_adapter(model, tmp_path / "adapter")
    where = ["--model", model, "--adapter", adapter, "--set", "merge.grid=none"]
    return ["merge", *where, "--out", tmp_path / "run", "--progress", "none"]


def leftovers(run: Path) -> list[str]:
    return [path.name for path in run.rglob(".*.edgepeft-*")]


def check(run: Path) -> None:
    """Whatever has a final name is finished, and every JSON file is one."""
    for folder in (run / "stages").glob("[!.]*"):
        manifest = read_manifest(folder)
        assert manifest is not None
        assert is_finished(folder, manifest["key"])
    for file in run.glob("*.json"):
        json.loads(file.read_text())


@pytest.mark.parametrize("kind", ["create", "fsync", "rename"])
def test_killed_at_operations_of_every_process(
    tmp_path: Path, arguments: list[object], kind: str
) -> None:
    run, mark = tmp_path / "run", tmp_path / "mark"
    for number in (1, 5, 11):
        done = edgepeft(*arguments, env=environment(kind, number, "kill", run, mark))
        if not mark.exists():
            assert done.returncode == 0
            break
        # A stage's process that is killed is told by the build, which goes on to its own end.
        assert done.returncode in (-9, 1)
        assert "Traceback" not in done.stderr
        check(run)
    done = edgepeft(*arguments)
    assert done.returncode == 0, done.stderr
    check(run)
    assert leftovers(run) == []
    assert read_manifest(next((run / "stages").glob("merge-*"))) is not None


@pytest.mark.parametrize("what", ["ENOSPC", "EACCES"])
def test_refused_at_operations_of_every_process(
    tmp_path: Path, arguments: list[object], what: str
) -> None:
    run, mark = tmp_path / "run", tmp_path / "mark"
    for number in (4, 12, 20, 28):
        done = edgepeft(*arguments, env=environment("any", number, what, run, mark))
        check(run)
        assert leftovers(run) == []
        if not mark.exists():
            assert done.returncode == 0
            break
        # The events of a build are kept as well as may be, and a log of crashes is no part of the work.
        lines = [line for line in done.stderr.splitlines() if line.startswith("edgepeft:")]
        assert done.returncode in (0, 1), (number, done.stderr)
        assert len(lines) == done.returncode
        assert "Traceback" not in done.stderr
