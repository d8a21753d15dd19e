"""A hot-swap bundle from recipe to report, and a build that would take its base away."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command import build_json, edgepeft, write_recipe
from tests.stages import write_adapter
from tests.tiny import write_tiny_data, write_tiny_model


def test_each_adapter_is_measured_against_its_own_reference(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model", "llama")
    first = write_adapter(model, tmp_path / "first", seed=1)
    second = write_adapter(model, tmp_path / "second", seed=2, r=8, target_modules=["v_proj"])
    data = write_tiny_data(tmp_path / "data", rows=16)
    recipe = write_recipe(
        tmp_path / "desk.yaml",
        model,
        data,
        method=None,
        training=None,
        adapter=str(first),
        adapters=[{"name": "second", "path": str(second)}],
        targets=[{"name": "cpu-fp32", "adapters": "hot-swap"}],
        gates={"max_task_kl": 1e-6, "max_generic_kl": 1e-6},
    )
    out = tmp_path / "run"
    result = build_json(recipe, "--out", out)
    (bundle,) = result["bundles"]
    assert bundle["gates"] == "passed"
    assert [adapter["name"] for adapter in bundle["adapters"]] == ["desk", "second"]
    losses = set()
    for adapter in bundle["adapters"]:
        # Nothing is rounded here, so nothing but float noise may part it from PEFT's own model.
        assert adapter["same_base"] is True
        assert adapter["gates"] == "passed"
        assert 0 <= adapter["fidelity"]["task_kl"] < 1e-6
        losses.add(adapter["fidelity"]["reference_task_loss"])
    assert len(losses) == 2
    folder = Path(bundle["path"])
    card = (folder / "README.md").read_text()
    assert (
        "Adapter second (rank 8), served on the base it is assumed to have been trained on (nf4)"
        in card
    )
    listed = json.loads(edgepeft("adapters", "list", folder, "--json").stdout)
    assert [(entry["name"], entry["gates"]) for entry in listed] == [
        ("desk", "passed"),
        ("second", "passed"),
    ]
    again = build_json(recipe, "--out", out)
    assert again["bundles"] == result["bundles"]
    assert "export-cpu-fp32" in again["reused"]

    # An adapter that is added later is measured as the build measures its own.
    measured = edgepeft(
        *("adapters", "add", folder, second, "--name", "later", "--test", recipe),
        *("--model", model, "--json", "--progress", "none"),
    )
    assert measured.returncode == 0, measured.stderr
    facts = json.loads(measured.stdout)
    assert (facts["added"], facts["gates"]) == (True, "passed")
    timed = ("tokens_per_second", "exact_match_seconds")
    theirs = bundle["adapters"][1]["fidelity"]
    for one in (theirs, facts["fidelity"]):
        one["witness"].pop("seconds")
    for key in theirs.keys() - set(timed):
        assert facts["fidelity"][key] == theirs[key], key
    listed = json.loads(edgepeft("adapters", "list", folder, "--json").stdout)
    assert [entry["gates"] for entry in listed] == ["passed"] * 3
    assert edgepeft("verify", folder).returncode == 0
    assert edgepeft("adapters", "remove", folder, "later").returncode == 0

    # A customer's adapter, and a recipe whose base is another: the adapter must not vanish with the old one.
    assert edgepeft("adapters", "add", folder, first, "--name", "customer").returncode == 0
    refused = edgepeft("build", recipe, "--out", out, "--set", "merge.grid=none")
    assert refused.returncode == 2
    assert "1 adapters were added to it (customer)" in refused.stderr
    assert (folder / "adapters" / "customer").is_dir()


def test_one_adapter_that_misses_its_gate_fails_the_build(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model", "llama")
    recipe = write_recipe(
        tmp_path / "desk.yaml",
        model,
        write_tiny_data(tmp_path / "data", rows=16),
        method=None,
        training=None,
        adapter=str(write_adapter(model, tmp_path / "first", seed=1)),
        targets=[{"name": "cpu-int8", "adapters": "hot-swap"}],
        gates={"max_task_kl": 1e-12, "max_exact_match_drop": None},
    )
    done = edgepeft("build", recipe, "--out", tmp_path / "run", "--json", "--progress", "none")
    assert done.returncode == 4, done.stderr
    assert "desk: max_task_kl" in done.stderr
    bundle = json.loads(done.stdout)["bundles"][0]
    assert bundle["adapters"][0]["gates"] != "passed"
    assert (
        "is assumed to have been trained on nf4, served on int8"
        in (Path(bundle["path"]) / "README.md").read_text()
    )

    # One that is added later is not even kept, unless that is asked for.
    add = ("adapters", "add", bundle["path"], tmp_path / "first", "--test", recipe)
    nameless = edgepeft(*add)
    assert nameless.returncode == 2
    assert "name it with --model" in nameless.stderr
    rest = ("--model", model, "--progress", "none")
    refused = edgepeft(*add, *rest)
    assert refused.returncode == 4, refused.stderr
    assert "max_task_kl" in refused.stderr
    assert "not added" in refused.stderr
    assert "which costs it: exact match" in refused.stdout
    names = [path.name for path in (Path(bundle["path"]) / "adapters").iterdir()]
    assert names == ["desk"]
    kept = edgepeft(*add, *rest, "--keep-failed")
    assert kept.returncode == 4, kept.stderr
    listed = json.loads(edgepeft("adapters", "list", bundle["path"], "--json").stdout)
    assert [(entry["name"], entry["gates"] == "passed") for entry in listed] == [
        ("desk", False),
        ("first", False),
    ]
