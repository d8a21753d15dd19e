"""A real encoder from a sample's recipe to a measured bundle, each stage in its own process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgepeft.models import KNOWN_MODELS, packaged_file
from tests.command import build_json, edgepeft
from tests.conftest import SAMPLES

pytestmark = pytest.mark.real
RECIPE = SAMPLES / "recipes" / "message-team.yaml"
SHORTER = (
    *("--set", "training.max_steps=24"),
    *("--set", "training.eval_rows=0"),
    *("--set", "data.max_test_rows=60"),
    *("--set", "targets=[cpu-int8]"),
)


def test_minilm_becomes_a_classifier_that_is_the_one_trained(tmp_path: Path) -> None:
    if packaged_file(KNOWN_MODELS["all-minilm-l6-v2"]) is None:
        pytest.skip("MiniLM's package is not installed (make install does)")
    run = tmp_path / "run"
    result = build_json(RECIPE, "--out", run, *SHORTER)
    (bundle,) = result["bundles"]
    assert bundle["gates"] == "passed"
    fidelity = bundle["fidelity"]
    assert fidelity["task_kl"] < 1e-3
    assert fidelity["label_agreement"] > 0.95
    assert fidelity["recovery"] == pytest.approx(1.0, abs=0.02)
    assert fidelity["reference_task_loss"] < 0.8 * fidelity["base_task_loss"]
    assert "exact_match" not in fidelity
    # 11 M weights of products and 12 M of the embedding at 8 bits, stored once.
    assert bundle["bytes"] < 30e6
    card = (Path(bundle["path"]) / "README.md").read_text()
    assert "| model | accuracy | macro F1 |" in card
    assert "head: float" in card
    assert "train" in build_json(RECIPE, "--out", run, *SHORTER)["reused"]
    compared = edgepeft("compare", run, "--vary", "targets=cpu-int4,cpu-int8", "--json")
    assert compared.returncode == 0, compared.stderr
    coarse, fine = json.loads(compared.stdout)
    assert coarse["bytes"] < 0.9 * fine["bytes"]
    assert fine["bytes"] == pytest.approx(bundle["bytes"], rel=1e-3)
    # The same weights in the same graph, but for how the runtime's threads share a sum.
    assert fine["fidelity"]["task_kl"] == pytest.approx(fidelity["task_kl"], rel=0.05)
    assert coarse["fidelity"]["task_kl"] > fine["fidelity"]["task_kl"]
    shown = edgepeft("data", RECIPE)
    assert "[[" in shown.stdout, shown.stderr
    asked = edgepeft("run", bundle["path"], "You billed me two times for one camera.")
    assert len(asked.stdout.splitlines()) == 6
