"""A fleet from recipe to bundles: what is shared, what fails alone, and what goes on where it was left."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.command import build_json, edgepeft, start, write_recipe
from tests.fleet.conftest import BuiltFleet, adapter_bytes, events_of, write_fleet

CELLS = [f"{who}/{target}" for who in ("acme", "zeta") for target in ("cpu-int8", "cpu-fp32")]


def test_every_cell_that_can_be_built_is_and_the_other_says_why(fleet: BuiltFleet) -> None:
    cells = {cell["cell"]: cell for cell in fleet.result["cells"]}
    assert list(cells) == [*CELLS[:2], "mistaken/cpu-int8", "mistaken/cpu-fp32", *CELLS[2:]]
    for name in CELLS:
        cell = cells[name]
        assert (cell["state"], cell["exit_status"], cell["error"]) == ("done", 0, None)
        assert Path(cell["bundle"]["path"]) == fleet.out / "bundles" / name
        assert cell["bundle"]["gates"] == "passed"
        assert cell["bundle"]["fidelity"]["task_kl"] < 0.01
    assert cells["mistaken/cpu-int8"]["exit_status"] == fleet.exit_status == 2
    assert "nowhere.jsonl: no such data file" in cells["mistaken/cpu-fp32"]["error"]
    assert cells["zeta/cpu-int8"]["choices"] == {"customer": "zeta"}
    # As a build without a matrix lists them.
    assert [bundle["cell"] for bundle in fleet.result["bundles"]] == CELLS


def test_what_cells_share_is_done_once(fleet: BuiltFleet) -> None:
    begun = Counter(event["stage"] for event in fleet.events if event["event"] == "started")
    assert set(begun.values()) == {1}
    assert {"base", "acme/train", "acme/merge", "zeta/merge", "zeta/reference"} <= set(begun)
    shared = {event["stage"]: event["cells"] for event in fleet.events if "cells" in event}
    assert shared["base"] == CELLS
    assert shared["acme/merge"] == CELLS[:2]
    assert shared["acme/quantize-int8"] == ["acme/cpu-int8"]
    # base; train, and seven stages a customer for int8 with two more for float32.
    folders = [path.name.rpartition("-")[0] for path in (fleet.out / "stages").iterdir()]
    assert Counter(folders) == {
        "base": 1, "train": 1, "merge": 2, "quantize-int8": 2, "reference": 2, "witness": 2, "float-graph-cpu": 2,
        "verify-cpu-int8": 2, "verify-cpu-fp32": 2,
    }  # fmt: skip
    assert fleet.result["stages"] == {"built": 20, "reused": 0, "shared": 8}


def test_two_stages_were_at_work_at_a_time_and_no_more(fleet: BuiltFleet) -> None:
    at_work, most = 0, 0
    for event in fleet.events:
        at_work += {"started": 1, "finished": -1}.get(event["event"], 0)
        most = max(most, at_work)
    assert most == 2


def test_the_same_command_reuses_everything_and_only_one_cell_alone(fleet: BuiltFleet) -> None:
    again = edgepeft("build", fleet.recipe, "--out", fleet.out, "--only", "zeta", "--json")
    assert again.returncode == 0, again.stderr
    result = json.loads(again.stdout)
    assert [cell["cell"] for cell in result["cells"]] == CELLS[2:]
    assert result["stages"] == {"built": 0, "reused": 10, "shared": 4}
    # The record keeps what it knew of the other cells.
    record = json.loads((fleet.out / "run.json").read_text())
    assert {cell["cell"] for cell in record["result"]["cells"]} >= set(CELLS)
    assert record["state"] == "failed"
    shown = edgepeft("build", fleet.recipe, "--out", fleet.out, "--progress", "none")
    assert shown.returncode == 2
    for name in CELLS:
        assert name in shown.stdout
    assert "0 stages built, 20 reused" in shown.stdout
    assert "mistaken/cpu-int8: " in shown.stderr
    assert "2 of 6 cells failed" in shown.stderr


def test_a_bundle_is_the_one_that_a_recipe_of_its_own_makes(
    fleet: BuiltFleet, tmp_path: Path
) -> None:
    root = fleet.recipe.parent
    data = (root / "data" / "train.jsonl", root / "data" / "test.jsonl")
    adapter = {"adapter": str(root / "adapters" / "zeta"), "merge": {"grid": "none"}}
    recipe = write_recipe(
        tmp_path / "zeta.yaml", root / "model", data, method=None, training=None, **adapter
    )
    (alone,) = build_json(recipe, "--out", tmp_path / "run")["bundles"]
    (ours,) = (one for one in fleet.result["bundles"] if one["cell"] == "zeta/cpu-int8")
    weights = sorted(Path(alone["path"]).rglob("*.onnx_data"))
    assert weights
    for path in weights:
        twin = Path(ours["path"]) / path.relative_to(alone["path"])
        assert twin.read_bytes() == path.read_bytes()
    assert alone["fidelity"]["task_kl"] == pytest.approx(ours["fidelity"]["task_kl"], abs=1e-6)


def test_a_fleet_is_planned_inspected_and_listed(fleet: BuiltFleet) -> None:
    planned = json.loads(edgepeft("plan", fleet.recipe, "--out", fleet.out, "--json").stdout)
    assert all(stage["reused"] for stage in planned["stages"])
    assert {stage["stage"]: len(stage["cells"]) for stage in planned["stages"]}["base"] == 4
    assert planned["cells"][0]["stages"][:2] == ["base", "acme/train"]
    assert "no such data file" in planned["cells"][2]["error"]
    # What is asked of any recipe's plan.
    assert planned["model"]["parameters"] > 0
    assert {"seconds", "training_memory", "choices", "bundles", "steps"} <= set(planned)
    shown = edgepeft("build", fleet.recipe, "--out", fleet.out, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "20 stages where cells alone would take 30" in shown.stdout
    facts = json.loads(edgepeft("inspect", fleet.out, "--json").stdout)
    assert facts["kind"] == "run"
    assert facts["cells"]
    bundle = json.loads(edgepeft("inspect", fleet.out / "bundles" / CELLS[0], "--json").stdout)
    assert (bundle["kind"], bundle["target"]) == ("bundle", "cpu-int8")
    listed = edgepeft("runs", fleet.out.parent)
    assert listed.returncode == 0, listed.stderr
    assert str(fleet.out) in listed.stdout
    refused = edgepeft("compare", fleet.out)
    assert refused.returncode == 2
    assert "the recipe has a matrix" in refused.stderr
    data = edgepeft("data", fleet.recipe)
    assert data.returncode == 0, data.stderr
    assert "acme/cpu-int8" in data.stderr


def test_a_run_folder_goes_on_with_its_matrix(fleet: BuiltFleet) -> None:
    done = edgepeft("build", fleet.out, "--only", "acme/cpu-fp32", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["run"] == str(fleet.out)
    assert result["stages"]["built"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "acme/cpu-int9"], "no such cell; did you mean acme/cpu-int8?"),
        (["--memory", "lots"], "--memory lots: not a size; write it as 8GB"),
        (["--memory", "0GB"], "--memory 0GB: not a size; write it as 8GB"),
        (["--fresh", "--only", "acme"], "--fresh: would also delete the other cells"),
        (["--set", "matrix={}", "--jobs", "2"], "--jobs: the recipe has no matrix"),
        (["--set", "matrix={}", "--only", "x"], "--only: the recipe has no matrix"),
        (["--cluster", "nonsense://x"], "--cluster nonsense://x: "),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    fleet: BuiltFleet, arguments: list[str], message: str
) -> None:
    done = edgepeft("build", fleet.recipe, "--out", fleet.out, *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missed_gate_is_the_cells_own(fleet: BuiltFleet) -> None:
    """Gates judge anew without measuring; a bundle that missed one is better than one that is not there."""
    overrides = ["--set", "matrix.customer.zeta.gates.max_generic_kl=1e-12"]
    done = edgepeft(
        "build", fleet.recipe, "--out", fleet.out, "--json", "--only", "zeta", *overrides
    )
    assert done.returncode == 4
    result = json.loads(done.stdout)
    assert {cell["state"] for cell in result["cells"]} == {"gate missed"}
    assert "max_generic_kl" in result["cells"][0]["error"]
    assert result["stages"]["built"] == 0
    assert edgepeft("build", fleet.recipe, "--out", fleet.out, *overrides).returncode == 2
    assert edgepeft("build", fleet.recipe, "--out", fleet.out, "--only", "zeta").returncode == 0


def wait_for(pattern: str, root: Path, seconds: float = 120) -> Path:
    """The first path below ``root`` that fits, once there is one."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := sorted(root.glob(pattern)):
            return found[0]
        time.sleep(0.02)
    raise AssertionError(f"{pattern} did not appear")


def test_ctrl_c_leaves_a_state_that_the_same_command_goes_on_from(tmp_path: Path) -> None:
    """Two trainings at a time are both asked to save; afterwards they go on to the undisturbed result."""
    training = {"max_steps": 60, "batch_size": 4, "learning_rate": 0.005, "save_steps": 5}
    recipe = write_fleet(
        tmp_path, training=training, matrix={"training.seed": [0, 1]}, targets=["cpu-fp32"]
    )
    process = start("train", recipe, "--out", tmp_path / "run", "-j", "2", "--progress", "none")
    for seed in (0, 1):
        wait_for(f"logs/seed-{seed}-train.log", tmp_path / "run")
    wait_for("scratch/train-*/checkpoints/checkpoint-10/edgepeft-complete", tmp_path / "run")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors == "edgepeft: interrupted; run the same command to resume\n"
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["state"] == "interrupted"
    assert "interrupted" in {cell["state"] for cell in record["result"]["cells"]}
    assert list((tmp_path / "run").glob("scratch/train-*/checkpoints/*/edgepeft-complete"))

    going_on = edgepeft("train", recipe, "--out", tmp_path / "run", "-j", "2", "--json")
    assert going_on.returncode == 0, going_on.stderr
    assert "resuming from training checkpoint" in going_on.stderr
    calm = edgepeft("train", recipe, "--out", tmp_path / "calm", "-j", "2", "--json")
    ours, theirs = (json.loads(done.stdout)["cells"] for done in (going_on, calm))
    assert len(ours) == 2
    for one, other in zip(ours, theirs, strict=True):
        assert adapter_bytes(one["adapter"]) == adapter_bytes(other["adapter"])
    assert ours[0]["adapter"] != ours[1]["adapter"]


def test_a_killed_build_leaves_no_stage_at_work(tmp_path: Path) -> None:
    import psutil

    recipe = write_fleet(tmp_path, matrix={"training.seed": [0, 1]}, training={"max_steps": 500})
    process = start("train", recipe, "--out", tmp_path / "run", "-j", "2", "--progress", "none")
    wait_for("logs/seed-1-train.log", tmp_path / "run")
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # One that is still loading its libraries hears of it when it has them.
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    assert {event["event"] for event in events_of(tmp_path / "run")} >= {"planned", "started"}
