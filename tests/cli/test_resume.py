"""Kills, interrupts and crowding: whatever happens, the same command goes on to the same result."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.command import build_json, edgepeft, start, write_recipe
from tests.tiny import write_tiny_data, write_tiny_model


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A training long enough to be caught in the middle."""
    return write_recipe(
        tmp_path / "tiny.yaml",
        write_tiny_model(tmp_path / "model", "llama"),
        write_tiny_data(tmp_path / "data"),
        training={
            "max_steps": 60,
            "batch_size": 4,
            "learning_rate": 0.005,
            "save_steps": 5,
            "eval_steps": 10,
        },
    )


def _wait_for(pattern: str, root: Path, process: object, seconds: float = 120) -> Path:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = sorted(root.glob(pattern))
        if found:
            return found[0]
        time.sleep(0.02)
    raise AssertionError(f"{pattern} did not appear")


def _adapter_bytes(adapter: str) -> bytes:
    return (Path(adapter) / "adapter_model.safetensors").read_bytes()


def test_kill_9_in_training_goes_on_to_the_same_adapter(recipe: Path, tmp_path: Path) -> None:
    """Killed with its children alive, the build resumes from a whole checkpoint, bit for bit."""
    process = start("train", recipe, "--out", tmp_path / "killed", "--progress", "none")
    marker = "scratch/train-*/checkpoints/checkpoint-1*/edgepeft-complete"
    _wait_for(marker, tmp_path / "killed", process)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, "a stage outlived its build"
    assert not list((tmp_path / "killed" / "stages").glob("train-*"))

    done = edgepeft("train", recipe, "--out", tmp_path / "killed", "--json")
    assert done.returncode == 0, done.stderr
    assert "resuming from training checkpoint" in done.stderr
    undisturbed = edgepeft("train", recipe, "--out", tmp_path / "calm", "--json")
    first, second = (json.loads(d.stdout)["adapter"] for d in (done, undisturbed))
    assert _adapter_bytes(first) == _adapter_bytes(second)


def test_interrupt_saves_a_checkpoint_and_exits_130(recipe: Path, tmp_path: Path) -> None:
    """Ctrl-C lets the step finish, keeps the state and says that the same command goes on."""
    process = start("train", recipe, "--out", tmp_path / "run", "--progress", "none")
    _wait_for("scratch/train-*/checkpoints/checkpoint-5", tmp_path / "run", process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "run the same command to resume" in errors
    assert "Traceback" not in errors
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["state"] == "interrupted"
    assert list((tmp_path / "run").glob("scratch/train-*/checkpoints/*/edgepeft-complete"))


def test_a_second_build_in_the_same_folder_is_refused(recipe: Path, tmp_path: Path) -> None:
    """The first goes on undisturbed; the second says why it may not."""
    process = start("train", recipe, "--out", tmp_path / "run", "--progress", "none")
    try:
        _wait_for("run.json", tmp_path / "run", process)
        second = edgepeft("train", recipe, "--out", tmp_path / "run")
        assert second.returncode == 1
        assert "another edgepeft build is at work" in second.stderr
        assert len(second.stderr.strip().splitlines()) == 1
    finally:
        process.kill()
        process.wait()


def test_half_written_checkpoint_is_not_resumed_from(recipe: Path, tmp_path: Path) -> None:
    """A checkpoint without its marker is thrown away, however complete it looks."""
    from edgepeft.training.checkpoints import last_complete, mark_complete

    for step in (5, 10, 15):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text("{}")
        if step < 15:
            mark_complete(folder)
    assert last_complete(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-15").exists()


def test_killed_export_leaves_nothing_under_a_final_name(recipe: Path, tmp_path: Path) -> None:
    """Whatever stage a kill hits, every folder with a final name is whole, and the build ends well."""
    process = start("build", recipe, "--out", tmp_path / "run", "--progress", "none")
    _wait_for("bundles/.cpu-int8.*.tmp/onnx", tmp_path / "run", process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "bundles" / "cpu-int8").exists()
    result = build_json(recipe, "--out", tmp_path / "run")
    assert "train" in result["reused"]
    assert not list((tmp_path / "run" / "bundles").glob(".*tmp*"))
