"""The functions that notebooks and scripts call."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import edgepeft
from edgepeft import api
from edgepeft.events import Event
from tests.command import edgepeft as command
from tests.command import write_recipe
from tests.conftest import ModelMaker
from tests.tiny import write_tiny_data


@pytest.fixture
def recipe(tiny_model: ModelMaker, tmp_path: Path) -> dict[str, Any]:
    path = write_recipe(tmp_path / "r.yaml", tiny_model("llama"), write_tiny_data(tmp_path))
    raw: dict[str, Any] = yaml.safe_load(path.read_text())
    raw["training"]["max_steps"] = 4
    return raw


def test_build_plan_and_compare_say_what_the_commands_print(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    run, heard = tmp_path / "run", list[Event]()
    planned = edgepeft.plan(recipe, run)
    assert [stage["stage"] for stage in planned["stages"]][:2] == ["base", "train"]
    assert not run.exists()
    built = edgepeft.build(recipe, run, on_event=heard.append)
    assert isinstance(built, edgepeft.BuildResult)
    assert {event["event"] for event in heard} >= {"planned", "started", "progress", "finished"}
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(recipe))
    done = command("build", tmp_path / "again.yaml", "--out", run, "--json")
    assert done.returncode == 0, done.stderr
    told, ours = json.loads(done.stdout), built.as_dict()
    for changing in ("seconds", "reused"):
        del told[changing], ours[changing]
    assert told == ours
    answering = edgepeft.Runtime(Path(built.bundles[0]["path"]))
    stream = answering.stream("What is the colour of coal (number 3)?")
    assert "".join(stream) == stream.completion().text
    (entry,) = edgepeft.compare(run, ["quantize.block_size=16"])
    assert entry["fidelity"]["rows"] == built.bundles[0]["fidelity"]["rows"]


def test_a_missed_gate_raises_with_the_result(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["gates"] = {"max_task_kl": 1e-12}
    with pytest.raises(edgepeft.GateError, match="gate missed: cpu-int8: ") as raised:
        edgepeft.build(recipe, tmp_path / "run")
    assert raised.value.result.bundles[0]["target"] == "cpu-int8"
    assert Path(raised.value.result.bundles[0]["path"]).is_dir()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "nowhere"}, "model: nowhere"),
        ({"tragets": []}, "tragets"),
        ({"matrix": {"method.rank": [2, 4]}}, "matrix"),
    ],
)
def test_what_is_wrong_raises_before_anything_is_built(
    change: dict[str, Any], said: str, recipe: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(edgepeft.InputError, match=said):
        edgepeft.build({**recipe, **change}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_importing_stays_light_and_names_are_there() -> None:
    code = (
        "import sys, edgepeft; heavy = {'pydantic', 'torch', 'onnxruntime', 'numpy'} & set(sys.modules);"
        "assert not heavy, heavy; edgepeft.Runtime; edgepeft.build"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = edgepeft.nothing  # type: ignore[attr-defined]


def test_the_listed_names_are_those_of_the_package() -> None:
    assert all(getattr(edgepeft, name) is getattr(api, name) for name in api.__all__)


def test_a_notebook_shows_a_bar(recipe: dict[str, Any], tmp_path: Path) -> None:
    """In a process whose shell has a kernel, as Jupyter's: rich draws there as it does in a terminal."""
    code = f"""
import sys, types, json
shell = types.SimpleNamespace(kernel=object())
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
import edgepeft
edgepeft.build(json.loads({json.dumps(json.dumps(recipe))}), {str(tmp_path / "run")!r}, until="merge")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "✓ train" in done.stdout
    assert "✓ merge" in done.stdout
