"""The smaller commands: their JSON, their lines, how fast they start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Built
from tests.command import COMMAND, edgepeft


def _json(*arguments: object) -> object:
    done = edgepeft(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_loads_no_heavy_library() -> None:
    """``--help`` must answer at once, so it may import neither torch nor transformers nor numpy."""
    code = (
        "import sys\n"
        "from edgepeft.cli import app, commands\n"
        "heavy = {'torch', 'transformers', 'numpy', 'onnxruntime', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_command_has_help() -> None:
    """Each command explains itself."""
    commands = "build train merge quantize export verify run plan inspect doctor models targets schema runs"
    for command in commands.split():
        done = edgepeft(command, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout


def test_schema_is_the_recipes(built: Built) -> None:
    """Every top-level key of the recipe is in the schema."""
    done = edgepeft("schema")
    schema = json.loads(done.stdout)
    assert {"model", "data", "method", "training", "merge", "quantize", "targets", "gates"} <= set(
        schema["properties"]
    )
    assert schema["additionalProperties"] is False


def test_plan_says_what_is_reused_and_writes_nothing(built: Built, tmp_path: Path) -> None:
    """A finished run has nothing left to do; a new one has everything, and planning makes no folder."""
    done = _json("plan", built.recipe, "--out", built.out)
    assert isinstance(done, dict)
    assert all(stage["reused"] for stage in done["stages"])
    fresh = edgepeft("build", built.recipe, "--out", tmp_path / "new", "--dry-run")
    assert fresh.returncode == 0
    assert "peak memory" in fresh.stdout
    assert not (tmp_path / "new").exists()


def test_plan_puts_a_price_on_time(built: Built, tmp_path: Path) -> None:
    """The price is the estimated time at the given rate per hour."""
    plan = _json("plan", built.recipe, "--out", tmp_path / "new", "--price", "3600")
    assert isinstance(plan, dict)
    assert plan["price"] == pytest.approx(plan["seconds"], rel=0.01)


def test_inspect_knows_models_adapters_bundles_and_runs(built: Built) -> None:
    """The same command tells them apart."""
    kinds = {
        str(built.recipe.parent / "model"): "model",
        built.result["adapter"]: "adapter",
        built.result["bundles"][0]["path"]: "bundle",
        str(built.out): "run",
    }
    for path, kind in kinds.items():
        facts = _json("inspect", path)
        assert isinstance(facts, dict)
        assert facts["kind"] == kind
    adapter = _json("inspect", built.result["adapter"])
    assert isinstance(adapter, dict)
    assert adapter["trained_on"] == "nf4"
    assert adapter["rank"] == 8


def test_runs_lists_the_build(built: Built) -> None:
    """A run below the folder is found, with its state."""
    runs = _json("runs", built.out.parent)
    assert isinstance(runs, list)
    assert any(run["path"] == str(built.out) and run["state"] == "done" for run in runs)


def test_doctor_names_versions_and_hardware() -> None:
    """Versions of what is installed, cores and memory, and each extra's state."""
    facts = _json("doctor")
    assert isinstance(facts, dict)
    assert facts["versions"]["torch"]
    assert facts["hardware"]["cores"] >= 1
    assert facts["extras"]["cpu"]["complete"] is True
    assert "onnxruntime-gpu" in facts["extras"]["cuda"]["adds"]


def test_models_and_targets_are_listed() -> None:
    """What a recipe may name."""
    assert any(model["name"] == "smollm2-135m-instruct" for model in _json("models"))  # type: ignore[attr-defined]
    targets = {target["name"] for target in _json("targets")}  # type: ignore[attr-defined]
    assert {"cpu-int4", "cpu-int8", "cpu-fp32"} <= targets


def test_progress_as_json_lines(built: Built, tmp_path: Path) -> None:
    """Each line on stderr is one event object; stdout stays data."""
    done = subprocess.run(
        [
            *COMMAND,
            "train",
            str(built.recipe),
            "--out",
            str(tmp_path / "run"),
            "--progress",
            "jsonl",
            "--json",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    events = [json.loads(line) for line in done.stderr.splitlines()]
    steps = [e for e in events if e["event"] == "progress" and e["stage"] == "train"]
    assert steps
    for event in steps:
        assert {"event", "stage", "step", "total", "seconds", "metrics"} <= set(event)
    assert steps[-1]["step"] == steps[-1]["total"] == 12
    assert any("loss" in event["metrics"] for event in steps)
    assert any("eval_loss" in event["metrics"] for event in steps)
    assert json.loads(done.stdout)["adapter"]


def test_run_answers_prompts_of_a_file(built: Built, tmp_path: Path) -> None:
    """One JSON object a line, in order."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "one"}\n{"prompt": "two"}\n', encoding="utf-8")
    bundle = built.result["bundles"][1]["path"]
    done = edgepeft("run", bundle, "--prompts", prompts, "--max-new-tokens", "3")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["prompt"] for answer in answers] == ["one", "two"]


def test_verify_finds_a_changed_byte(built: Built, tmp_path: Path) -> None:
    """A bundle that was tampered with is named, not run."""
    import shutil

    copy = tmp_path / "bundle"
    shutil.copytree(built.result["bundles"][1]["path"], copy)
    assert edgepeft("verify", copy).returncode == 0
    data = copy / "onnx" / "model.onnx_data"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    done = edgepeft("verify", copy)
    assert done.returncode == 2
    assert "model.onnx_data" in done.stderr
