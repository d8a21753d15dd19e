"""A build that misses a gate says which rows were lost and what to try; what it says to try helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgepeft.evaluation.lost_rows import LOST, read_lost
from edgepeft.evaluation.settings import VerifySettings
from tests.cli.conftest import Built
from tests.command import build_json, edgepeft, write_recipe
from tests.stages import run_stage
from tests.tiny import write_tiny_data, write_tiny_model

MISSED = ("--set", "gates.max_generic_kl=1e-6")
"""A bound that nothing rounded keeps, and float32 does."""


def tried(bundle: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["what"]: one for one in bundle["advice"]["try"]}


def test_a_missed_gate_says_what_to_try_and_what_the_run_measured(built: Built) -> None:
    done = edgepeft("build", built.recipe, "--out", built.out, *MISSED, "--json")
    assert done.returncode == 4
    rounded, exact = json.loads(done.stdout)["bundles"]
    assert "advice" not in exact
    assert [list(one) for one in rounded["advice"]["try"]] == [
        ["what", "set", "why", "cost", "bytes", "measured"]
    ] * len(rounded["advice"]["try"])
    first, *others = rounded["advice"]["try"]
    # The other bundle of the build passed: nothing has to be built for it.
    assert first["what"] == "targets: cpu-fp32"
    assert (first["measured"], first["bytes"]) == (True, exact["bytes"])
    assert not any(one["measured"] for one in others)
    assert {"quantize.learn_steps: 40", "quantize.block_size: 16"} <= set(tried(rounded))
    # Smaller blocks have more scales; 4-bit weights alone take a budget.
    assert tried(rounded)["quantize.block_size: 16"]["bytes"] > rounded["bytes"]
    assert not any("max_generic_kl" in what for what in tried(rounded))
    *lines, last = done.stderr.splitlines()
    assert last.startswith("edgepeft: gate missed: cpu-int8: max_generic_kl")
    assert any(line.startswith("cpu-int8: try targets: cpu-fp32: passed") for line in lines)
    assert any("no test row is lost" in line or "test rows are lost" in line for line in lines)
    report = json.loads((Path(rounded["path"]) / "fidelity.json").read_text())
    assert "advice" not in report
    build_json(built.recipe, "--out", built.out)


def test_json_lines_stay_json_lines(built: Built) -> None:
    done = edgepeft("build", built.recipe, "--out", built.out, *MISSED, "--progress", "jsonl")
    assert done.returncode == 4
    *events, last = done.stderr.splitlines()
    assert all(json.loads(line)["event"] for line in events)
    assert last.startswith("edgepeft: gate missed")
    build_json(built.recipe, "--out", built.out)


def test_every_suggestion_is_a_recipe_that_a_plan_takes(built: Built) -> None:
    done = edgepeft(
        *("build", built.recipe, "--out", built.out, *MISSED, "--json"),
        *("--set", "gates.min_exact_match=1"),
    )
    for one in tried(json.loads(done.stdout)["bundles"][0]).values():
        if one["set"]:
            changes = [word for change in one["set"] for word in ("--set", change)]
            planned = edgepeft("plan", built.recipe, *changes)
            assert planned.returncode == 0, (one, planned.stderr)
    build_json(built.recipe, "--out", built.out)


def test_what_a_comparison_measured_is_told_and_not_suggested_again(
    built: Built, tmp_path: Path
) -> None:
    recipe = built.carried(tmp_path / "recipe.yaml", quantize={"smooth": False})
    run = tmp_path / "run"
    before = edgepeft("build", recipe, "--out", run, *MISSED, "--json")
    (bundle,) = json.loads(before.stdout)["bundles"]
    assert {"quantize.smooth: true", "targets: cpu-fp32 in place of cpu-int8"} <= set(tried(bundle))
    vary = ["--vary", "targets=cpu-int8,cpu-fp32", "--vary", "quantize.smooth=true"]
    compared = edgepeft("compare", run, *vary, "--json")
    assert compared.returncode == 0, compared.stderr
    (_, exact) = json.loads(compared.stdout)
    after = edgepeft("build", recipe, "--out", run, *MISSED, "--json")
    (bundle,) = json.loads(after.stdout)["bundles"]
    # Smoothing was measured to miss the gate as well; what passed is told with its size.
    assert "quantize.smooth: true" not in tried(bundle)
    first = bundle["advice"]["try"][0]
    assert first["what"] == "targets: cpu-fp32, quantize.smooth: true"
    assert first["why"] == "passed all gates when edgepeft compare measured it"
    assert (first["measured"], first["bytes"]) == (True, exact["bytes"])


def test_rows_are_lost_that_the_reference_answers_right(tmp_path: Path) -> None:
    """A bundle of an adapter that learned nothing, held against the reference of one that did."""
    from edgepeft.evaluation import verify

    recipe = write_recipe(
        tmp_path / "recipe.yaml",
        write_tiny_model(tmp_path / "model", "llama"),
        write_tiny_data(tmp_path / "data"),
        training={"max_steps": 60, "batch_size": 8, "learning_rate": 0.02, "eval_rows": 0},
        targets=["cpu-fp32"],
    )
    (good,) = build_json(recipe, "--out", tmp_path / "run")["bundles"]
    share = good["fidelity"]["reference_exact_match"]
    assert share > 0
    assert good["fidelity"]["lost"] == 0
    stages = tmp_path / "run" / "stages"
    (whole,) = stages.glob("verify-*")
    assert read_lost(whole) == []
    few = ("--set", "training.max_steps=1", "--set", "training.learning_rate=1e-9")
    exported = edgepeft("export", recipe, "--out", tmp_path / "other", *few, "--json")
    assert exported.returncode == 0, exported.stderr
    (reference,), (base,) = stages.glob("reference-*"), stages.glob("base-*")
    settings = json.loads((whole / "edgepeft.json").read_text())["settings"]
    folder = run_stage(
        verify.run,
        tmp_path / "verified",
        VerifySettings.model_validate(settings).model_dump(mode="json"),
        {
            "bundle": Path(json.loads(exported.stdout)["bundles"][0]["path"]),
            "reference": reference,
            "base": base,
        },
    )
    measured = json.loads((folder / "measures.json").read_text())
    lost = read_lost(folder)
    right = round(share * measured["rows"])
    assert measured["exact_match"] == 0
    assert len(lost) == measured["lost"] == right
    record = json.loads((reference / "probes.json").read_text())
    wrong = set(record["reference"]["wrong"])
    assert {row.where for row in lost} == {one["where"] for one in record["questions"]} - wrong
    assert all(row.wanted != row.got for row in lost)
    assert json.loads((folder / LOST).read_text())[0].keys() == {"where", "wanted", "got"}


@pytest.mark.parametrize("bundle", [0, 1])
def test_a_bundle_says_how_many_rows_it_lost(built: Built, bundle: int) -> None:
    facts = built.result["bundles"][bundle]["fidelity"]
    gap = facts["reference_exact_match"] - facts["exact_match"]
    assert facts["lost"] >= gap * facts["rows"] - 1e-9
