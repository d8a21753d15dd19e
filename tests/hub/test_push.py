"""A bundle put on the hub: what arrives there, what its card says, and what is refused before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgepeft.hub.metadata import front_matter
from tests.command import build_json, edgepeft, on_terminal, write_recipe
from tests.hub.conftest import User
from tests.hub.served import TOKEN, Hub, content
from tests.stages import write_adapter
from tests.tiny import write_tiny_data, write_tiny_model

NO_GATES = {"max_exact_match_drop": None, "max_task_kl": None, "min_reference_gain": None}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A measured hot-swap bundle that passed its gates, with one adapter."""
    root = tmp_path_factory.mktemp("push")
    model = write_tiny_model(root / "model", "llama")
    (model / "README.md").write_text("---\nlicense: other\nlicense_name: tiny\n---\n")
    recipe = write_recipe(
        root / "tiny.yaml",
        model,
        write_tiny_data(root / "data", rows=16),
        adapter=str(write_adapter(model, root / "adapter")),
        method=None,
        training=None,
        targets=[{"name": "cpu-int8", "adapters": "hot-swap"}],
        gates=NO_GATES,
    )
    return Path(build_json(recipe, "--out", root / "run")["bundles"][0]["path"])


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "bundle"))


def test_a_bundle_arrives_as_it_lies_there(user: User, hub: Hub, bundle: Path) -> None:
    (bundle / "notes.txt").write_text("mine alone")
    facts = user.json("push", bundle, "me/bundle", token=TOKEN)
    repo = hub.repo("me/bundle")
    assert facts["commit"] == repo.refs["main"]
    assert facts["gates"] == "passed"
    assert facts["url"] == f"{hub.address}/me/bundle/tree/main"
    there = repo.commits[repo.refs["main"]]
    (bundle / "notes.txt").unlink()
    assert {name: data for name, data in there.items() if name != ".gitattributes"} == content(
        bundle
    )
    assert "adapters/tiny/adapter.onnx_adapter" in there
    assert not repo.private
    back = user.folder / "back"
    for name, data in there.items():
        (back / name).parent.mkdir(parents=True, exist_ok=True)
        (back / name).write_bytes(data)
    assert edgepeft("verify", back).returncode == 0
    (back / ".hidden").write_text("")
    assert edgepeft("verify", back).returncode == 2


def test_an_upload_shows_itself_on_a_terminal(user: User, hub: Hub, bundle: Path) -> None:
    status, shown = on_terminal("push", bundle, "me/bundle", env=user.environment(TOKEN))
    assert status == 0, shown
    assert b"100%" in shown
    assert b"MB/s" in shown or b"kB/s" in shown
    told = user("push", bundle, "me/other", token=TOKEN)
    assert told.returncode == 0
    assert "%" not in told.stderr


def test_the_card_has_what_the_hub_reads(bundle: Path) -> None:
    card = (bundle / "README.md").read_text()
    said = front_matter(card)
    assert said["pipeline_tag"] == "text-generation"
    assert {"edgepeft", "onnx", "cpu-int8"} <= set(said["tags"])
    assert (said["license"], said["license_name"]) == ("other", "tiny")
    (index,) = said["model-index"]
    (result,) = index["results"]
    measured = json.loads((bundle / "fidelity.json").read_text())["fidelity"]
    figures = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert figures["task_kl"] == measured["task_kl"]
    assert figures["exact_match"] == measured["exact_match"]
    assert "reference_exact_match" not in figures
    assert card.count("\n# ") == 1


def test_a_branch_and_a_private_model(user: User, hub: Hub, bundle: Path) -> None:
    arguments = ("push", bundle, "me/bundle", "--private", "--revision", "cpu/int8")
    assert user.json(*arguments, token=TOKEN)["private"] is True
    repo = hub.repo("me/bundle")
    assert repo.private
    assert set(repo.refs) == {"main", "cpu/int8"}
    assert set(repo.commits[repo.refs["main"]]) == {".gitattributes"}
    assert "edgepeft.json" in repo.commits[repo.refs["cpu/int8"]]


def test_what_an_earlier_bundle_left_is_removed(user: User, hub: Hub, bundle: Path) -> None:
    """And nothing else is: what people put beside it stays."""
    old = json.dumps({"outputs": {"onnx/old.onnx": {}, "README.md": {}}}).encode()
    beside = {"edgepeft.json": old, "onnx/old.onnx": b"1", "LICENSE": b"2", "picture.png": b"3"}
    hub.add("me/bundle", beside)
    user.json("push", bundle, "me/bundle", token=TOKEN)
    repo = hub.repo("me/bundle")
    there = repo.commits[repo.refs["main"]]
    assert "onnx/old.onnx" not in there
    assert (there["LICENSE"], there["picture.png"]) == (b"2", b"3")


def test_other_models_are_not_written_over(user: User, hub: Hub, bundle: Path) -> None:
    commit = hub.add("me/other", {"model.safetensors": b"weights", "README.md": b"# Mine"})
    status, line = user.refused("push", bundle, "me/other", token=TOKEN)
    assert status == 2
    assert "model.safetensors" in line
    assert hub.repo("me/other").refs["main"] == commit
    user.json("push", bundle, "me/other", "--force", token=TOKEN)
    assert "model.safetensors" in hub.repo("me/other").commits[hub.repo("me/other").refs["main"]]


def test_a_public_model_is_no_private_one(user: User, hub: Hub, bundle: Path) -> None:
    hub.add("me/bundle", {".gitattributes": b""})
    status, line = user.refused("push", bundle, "me/bundle", "--private", token=TOKEN)
    assert status == 2
    assert "public" in line


def writes(hub: Hub) -> list[str]:
    return [asked for asked in hub.asked if not asked.startswith(("GET", "HEAD"))]


def test_who_may_not_write_is_told_so(user: User, hub: Hub, bundle: Path) -> None:
    status, line = user.refused("push", bundle, "me/bundle")
    assert (status, hub.asked) == (2, [])
    assert "there is no token" in line
    assert "HF_TOKEN" in line
    status, line = user.refused("push", bundle, "me/bundle", token="hf_wrong")
    assert status == 2
    assert "does not accept your token" in line
    status, line = user.refused("push", bundle, "others/bundle", token=TOKEN)
    assert status == 2
    assert "forbids this to your token" in line
    status, line = user.refused("push", bundle, "me/bundle", token=TOKEN, HF_HUB_OFFLINE="1")
    assert status == 3
    status, line = user.refused("push", bundle, "bundle", token=TOKEN)
    assert status == 2
    assert "org/name" in line
    assert writes(hub) == ["POST /api/repos/create"]


@pytest.mark.parametrize("verdict", [["task_kl 1 > 0.05"], None])
def test_a_bundle_that_is_not_proven_is_kept_back(
    user: User, hub: Hub, bundle: Path, verdict: Any
) -> None:
    manifest = json.loads((bundle / "edgepeft.json").read_text())
    if verdict is None:
        del manifest["fidelity"]
    else:
        manifest["fidelity"]["gates"] = verdict
    (bundle / "edgepeft.json").write_text(json.dumps(manifest))
    status, line = user.refused("push", bundle, "me/bundle", token=TOKEN)
    assert (status, hub.asked) == (4, [])
    assert "--force" in line
    assert user.json("push", bundle, "me/bundle", "--force", token=TOKEN)["gates"] == verdict


@pytest.mark.parametrize("file", ["README.md", "adapters/tiny/adapter.onnx_adapter"])
def test_a_changed_bundle_is_not_uploaded(user: User, hub: Hub, bundle: Path, file: str) -> None:
    data = bytearray((bundle / file).read_bytes())
    data[-2] ^= 1
    (bundle / file).write_bytes(data)
    status, line = user.refused("push", bundle, "me/bundle", "--force", token=TOKEN)
    assert (status, hub.asked) == (2, [])
    assert file.rpartition("/")[2] in line
