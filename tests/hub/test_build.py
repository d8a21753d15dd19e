"""A whole build of things on the hub, each at a revision: the bundle says which, and goes back there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from edgepeft.hub.metadata import front_matter
from tests.hub.conftest import User
from tests.hub.served import TOKEN, Hub, content
from tests.stages import write_adapter
from tests.tiny import write_tiny_data

NO_GATES = {"max_exact_match_drop": None, "max_task_kl": None, "min_reference_gain": None}


@pytest.fixture
def commits(hub: Hub, model: Path, tmp_path: Path) -> dict[str, str]:
    """A model, an adapter and a dataset, each with a tag that is not its newest commit."""
    adapter = write_adapter(model, tmp_path / "adapter")
    train, test = write_tiny_data(tmp_path / "rows", rows=16)
    card = b"---\nlicense: apache-2.0\n---\n"
    found = {}
    for key, name, files, kind in (
        ("model", "me/tiny", {**content(model), "README.md": card}, "model"),
        ("adapter", "me/adapter", content(adapter), "model"),
        ("data", "me/rows", {"t/train.jsonl": train.read_bytes(), "t/test.jsonl": test.read_bytes()}, "dataset"),
    ):  # fmt: skip
        hub.add(name, files, kind)
        found[key] = hub.repo(name, kind).commit(files, "v1")
        hub.add(name, {"README.md": b"all of it is gone"}, kind)
    return found


def write(user: User, **keys: object) -> Path:
    path = user.folder / "hub.yaml"
    rows = "hf://datasets/me/rows@v1"
    recipe = {
        "model": "me/tiny@v1",
        "data": {"train": f"{rows}#train", "test": f"{rows}/t/test.jsonl", "max_test_rows": 4},
        "targets": ["cpu-int8"],
        "gates": NO_GATES,
        **keys,
    }
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_a_bundle_says_what_it_was_built_of(user: User, hub: Hub, commits: dict[str, str]) -> None:
    recipe = write(user, adapter="me/adapter@v1")
    done = user.json("build", recipe, "--out", "run", "--progress", "none")
    record = json.loads((user.folder / "run" / "run.json").read_text())
    assert {one["key"]: one["commit"] for one in record["sources"]} == {
        "model": commits["model"],
        "adapter": commits["adapter"],
        "data.train": commits["data"],
        "data.test": commits["data"],
    }
    assert record["model"] == "me/tiny@v1"
    bundle = Path(done["bundles"][0]["path"])
    assert json.loads((bundle / "fidelity.json").read_text())["sources"] == record["sources"]
    card = (bundle / "README.md").read_text()
    assert f"- model: me/tiny at commit {commits['model']}" in card
    said = front_matter(card)
    assert said["base_model"] == "me/tiny"
    assert said["datasets"] == ["me/rows"]
    assert said["license"] == "apache-2.0"
    assert said["model-index"][0]["results"][0]["dataset"]["revision"] == commits["data"]
    again = user("build", recipe, "--out", "run", "--json", HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert set(json.loads(again.stdout)["reused"]) >= {"base", "merge", "verify-cpu-int8"}
    user.json("push", bundle, "me/bundle", token=TOKEN)


def test_an_adapter_trained_here_names_its_base_as_peft_does(
    user: User, hub: Hub, commits: dict[str, str]
) -> None:
    training = {"max_steps": 1, "batch_size": 2, "eval_rows": 0}
    recipe = write(user, training=training, method={"name": "qlora", "rank": 2})
    done = user("train", recipe, "--out", "run", "--json", "--progress", "jsonl")
    assert done.returncode == 0, done.stderr
    config = json.loads(
        (Path(json.loads(done.stdout)["adapter"]) / "adapter_config.json").read_text()
    )
    assert (config["base_model_name_or_path"], config["revision"]) == ("me/tiny", "v1")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    told = [event["text"] for event in events if event["stage"] == "hub"]
    assert f"me/tiny: commit {commits['model']}" in told


def test_what_is_cached_is_listed(user: User, hub: Hub, commits: dict[str, str]) -> None:
    assert all(row["cached"] == [] for row in user.json("models"))
    user.json("plan", write(user, adapter="me/adapter@v1"))
    rows = {row["name"]: row for row in user.json("models")}
    (copy,) = rows["me/tiny"]["cached"]
    assert (copy["commit"], copy["revisions"]) == (commits["model"], ["v1"])
    assert "me/adapter" not in rows
    shown = user("models").stdout
    assert "In the hub's cache" in shown
    assert commits["model"][:12] in shown
