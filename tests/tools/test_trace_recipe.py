"""How far a recipe travels while it is planned: a bound, so that growth is noticed and a shorter way is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.project import Project, write_project

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "trace_recipe.py"


@pytest.fixture
def project(tiny_model: Any, tmp_path: Path) -> Project:
    return write_project(tiny_model("llama"), tmp_path)


def test_a_recipe_that_trains(project: Project) -> None:
    way = _traced(project)
    assert way["itself"]["places"] <= 34
    assert way["itself"]["returns"] <= 9
    assert way["all"]["folders"] <= 8
    assert _reads(way, "config.json") <= 4
    assert _reads(way, "train.jsonl") <= 2


def test_a_recipe_with_an_adapter(project: Project) -> None:
    project.use_adapter()
    way = _traced(project)
    assert way["itself"]["places"] <= 34
    assert way["itself"]["returns"] <= 9
    assert _reads(way, "adapter_config.json") <= 3


def test_the_way_begins_with_the_recipe_and_leads_to_the_plan(project: Project) -> None:
    entered = [place["function"] for place in _traced(project)["way"]]
    assert entered.index("Recipe._adapter_or_training") < entered.index("make_plan")
    assert _reads(_traced(project), "recipe.yaml") == 1


def test_a_recipe_that_cannot_be_planned_is_told(project: Project) -> None:
    project.recipe["model"] = "elsewhere"
    done = _run(project)
    assert done.returncode == 1
    assert "elsewhere" in done.stderr


def _traced(project: Project) -> dict[str, Any]:
    done = _run(project)
    assert done.returncode == 0, done.stderr
    way: dict[str, Any] = json.loads(done.stdout)
    return way


def _run(project: Project) -> subprocess.CompletedProcess[str]:
    recipe = project.folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(project.recipe), encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(TOOL), str(recipe), "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
        check=False,
    )


def _reads(way: dict[str, Any], name: str) -> int:
    """How often one file of this name was opened."""
    return sum(count for path, count in way["reads"].items() if Path(path).name == name)
