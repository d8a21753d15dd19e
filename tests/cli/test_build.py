"""``edgepeft build`` from end to end on tiny models: contract, proof, reuse, gates."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Built
from tests.command import build_json, edgepeft, write_recipe
from tests.tiny import write_tiny_data, write_tiny_model


def test_json_holds_the_contract(built: Built) -> None:
    """Scripts depend on these names; paths are absolute and exist."""
    result = built.result
    assert {"run", "adapter", "merged", "seconds", "peak_memory_bytes", "bundles"} <= set(result)
    for key in ("run", "adapter", "merged"):
        assert Path(result[key]).is_absolute()
        assert Path(result[key]).is_dir()
    assert result["peak_memory_bytes"] > 100e6
    assert [bundle["target"] for bundle in result["bundles"]] == ["cpu-int8", "cpu-fp32"]
    for bundle in result["bundles"]:
        assert Path(bundle["model_file"]).is_file()
        files = [path for path in Path(bundle["path"]).rglob("*") if path.is_file()]
        assert bundle["bytes"] == sum(path.stat().st_size for path in files)
        assert bundle["gates"] == "passed"
        assert {
            "exact_match",
            "reference_exact_match",
            "base_exact_match",
            "task_kl",
            "generic_kl",
            "top1_agreement",
            "recovery",
        } <= set(bundle["fidelity"])


def test_unrounded_bundle_is_the_reference(built: Built) -> None:
    """Merged on the right base and exported without rounding, nothing is lost but float noise."""
    fidelity = built.result["bundles"][1]["fidelity"]
    assert fidelity["task_kl"] < 1e-6
    assert fidelity["generic_kl"] < 1e-6
    assert fidelity["top1_agreement"] == 1.0
    assert fidelity["exact_match"] == fidelity["reference_exact_match"]


def test_training_taught_something(built: Built) -> None:
    """The reference must differ from the base, or every other figure is empty."""
    fidelity = built.result["bundles"][0]["fidelity"]
    assert fidelity["reference_task_loss"] < 0.8 * fidelity["base_task_loss"]
    assert 0 < fidelity["task_kl"] < 0.05


def test_second_build_reuses_everything(built: Built) -> None:
    """Nothing changed, so nothing runs, and the result is the same."""
    again = build_json(built.recipe, "--out", built.out)
    assert "train" in again["reused"]
    assert "verify-cpu-fp32" in again["reused"]
    assert again["bundles"] == built.result["bundles"]
    assert again["peak_memory_bytes"] == built.result["peak_memory_bytes"]


def test_missed_gate_exits_4_and_keeps_the_bundle(built: Built) -> None:
    """Changed gates judge the same measures anew; the JSON is printed all the same."""
    done = edgepeft(
        "build", built.recipe, "--out", built.out, "--set", "gates.max_generic_kl=1e-12", "--json"
    )
    assert done.returncode == 4
    result = json.loads(done.stdout)
    missed = result["bundles"][0]["gates"]
    assert missed[0].startswith("max_generic_kl: ")
    assert "gate missed: cpu-int8: max_generic_kl" in done.stderr
    assert "verify-cpu-int8" in result["reused"]
    shown = edgepeft("run", result["bundles"][0]["path"], "hello", "--max-new-tokens", "2")
    assert shown.returncode == 0
    assert "max_generic_kl" in shown.stderr
    assert edgepeft("verify", result["bundles"][0]["path"]).returncode == 4
    build_json(built.recipe, "--out", built.out)


def test_an_adapter_that_exists_takes_trainings_place(built: Built, tmp_path: Path) -> None:
    """The merging tool's front door: same adapter, same bundle, nothing trained."""
    recipe = built.carried(tmp_path / "adapter.yaml")
    result = build_json(recipe, "--out", tmp_path / "run")
    assert result["adapter"] == built.result["adapter"]
    assert not list((tmp_path / "run" / "stages").glob("train-*"))
    ours, theirs = result["bundles"][0]["fidelity"], built.result["bundles"][0]["fidelity"]
    assert ours["task_kl"] == pytest.approx(theirs["task_kl"], rel=1e-6)


def test_a_bundle_for_one_runtime_is_exported_and_measured(built: Built, tmp_path: Path) -> None:
    """Without genai's configuration plain onnxruntime decodes the test rows, with the same outcome."""
    recipe = built.carried(tmp_path / "recipe.yaml")
    wrong = edgepeft("export", recipe, "--out", tmp_path / "run", "--layout", "gena")
    assert wrong.returncode == 2
    assert len(wrong.stderr.strip().splitlines()) == 1
    assert "layout" in wrong.stderr
    done = edgepeft(
        "export", recipe, "--out", tmp_path / "run", "--layout", "onnxruntime", "--json"
    )
    assert done.returncode == 0, done.stderr
    (exported,) = json.loads(done.stdout)["bundles"]
    assert not (Path(exported["path"]) / "genai_config.json").exists()
    result = build_json(recipe, "--out", tmp_path / "run", "--set", "layout=onnxruntime")
    ours, whole = result["bundles"][0]["fidelity"], built.result["bundles"][0]["fidelity"]
    assert ours["exact_match"] == whole["exact_match"]
    assert ours["task_kl"] == pytest.approx(whole["task_kl"])
    card = (Path(exported["path"]) / "README.md").read_text(encoding="utf-8")
    assert "load the folder with onnxruntime, optimum." in card


def test_merge_alone_needs_no_recipe(built: Built, tmp_path: Path) -> None:
    """``merge --model --adapter`` writes a checkpoint that transformers loads."""
    done = edgepeft(
        "merge",
        "--model",
        built.recipe.parent / "model",
        "--adapter",
        built.result["adapter"],
        "--out",
        tmp_path / "run",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    from transformers import AutoModelForCausalLM

    merged = AutoModelForCausalLM.from_pretrained(json.loads(done.stdout)["merged"])
    first = AutoModelForCausalLM.from_pretrained(built.result["merged"])
    for (name, ours), theirs in zip(
        merged.state_dict().items(), first.state_dict().values(), strict=True
    ):
        assert ours.equal(theirs), name


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "gemma3"])
def test_families_pass_through_the_whole_pipeline(family: str, tmp_path: Path) -> None:
    """Biases, Q/K norms, sliding windows and scaled embeddings survive from training to decoding."""
    recipe = write_recipe(
        tmp_path / f"{family}.yaml",
        write_tiny_model(tmp_path / "model", family, shards=2 if family == "qwen2" else 1),
        write_tiny_data(tmp_path / "data"),
        training={"max_steps": 6, "batch_size": 4, "learning_rate": 0.01, "eval_rows": 0},
        targets=["cpu-fp32", "cpu-int8"],
    )
    exact, rounded = build_json(recipe, "--out", tmp_path / "run")["bundles"]
    assert exact["fidelity"]["task_kl"] < 1e-6
    assert exact["fidelity"]["generic_kl"] < 1e-6
    assert exact["fidelity"]["exact_match"] == exact["fidelity"]["reference_exact_match"]
    assert rounded["fidelity"]["task_kl"] < 0.05


def test_plain_text_is_trained_and_measured_without_exact_match(tmp_path: Path) -> None:
    """A task without completions has losses and divergences, but no answers to compare."""
    text = [{"text": f"Rain fell on day {day} and the river rose a little."} for day in range(40)]
    for name, rows in (("train", text[:32]), ("test", text[32:])):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    recipe = write_recipe(
        tmp_path / "text.yaml",
        write_tiny_model(tmp_path / "model", "llama"),
        (tmp_path / "train.jsonl", tmp_path / "test.jsonl"),
        targets=["cpu-fp32"],
    )
    fidelity = build_json(recipe, "--out", tmp_path / "run")["bundles"][0]["fidelity"]
    assert fidelity["exact_match"] is None
    assert fidelity["task_kl"] < 1e-6
    assert fidelity["recovery"] == pytest.approx(1.0, abs=1e-3)


def test_modules_that_lie_about_are_not_run(tmp_path: Path) -> None:
    """Somebody's own safetensors.py beside the recipe must not be imported by a stage."""
    trace = tmp_path / "was-imported"
    for name in ("safetensors", "edgepeft"):
        code = f"import pathlib\npathlib.Path({str(trace)!r}).touch()\nraise SystemExit(9)\n"
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    recipe = write_recipe(
        tmp_path / "r.yaml",
        write_tiny_model(tmp_path / "model", "llama"),
        write_tiny_data(tmp_path / "data"),
        training={"max_steps": 1, "batch_size": 2},
    )
    program = Path(sys.executable).parent / "edgepeft"
    command: list[str | Path] = [program, "merge", recipe, "--out", tmp_path / "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not trace.exists()
