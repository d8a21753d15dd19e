"""A recipe with everything it names, on disk, for tests that plan."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgepeft.config.loader import load_recipe
from edgepeft.errors import InputError
from edgepeft.pipeline.plan import Plan
from edgepeft.pipeline.planner import make_plan
from edgepeft.runs.folder import RunFolder
from tests.stages import write_adapter
from tests.tiny import write_tiny_data

Keys = dict[str, str]


@dataclass
class Project:
    """A recipe on disk with everything it names beside it, to be changed and planned."""

    folder: Path
    recipe: dict[str, Any]

    def plan(self, *overrides: str, until: str = "verify", out: str = "run") -> Plan:
        """Write the recipe and plan it."""
        path = self.folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(self.recipe))
        return make_plan(load_recipe(path, overrides), RunFolder(self.folder / out), until=until)

    def keys(self, *overrides: str, until: str = "verify", out: str = "run") -> Keys:
        """Names of the planned stages and their keys."""
        return {s.name: s.key for s in self.plan(*overrides, until=until, out=out).stages}

    def refuses(self, *overrides: str, match: str) -> None:
        """Planning raises InputError that matches, in one line."""
        with pytest.raises(InputError, match=match) as caught:
            self.plan(*overrides)
        assert "\n" not in str(caught.value)

    def use_adapter(self) -> None:
        """Hand in an adapter instead of training one."""
        write_adapter(self.folder / "model", self.folder / "adapter", target_modules=["q_proj"])
        self.recipe["adapter"] = "adapter"
        self.recipe["data"].pop("train")


def write_project(model: Path, folder: Path) -> Project:
    """A project of its own around a copy of ``model``; it trains and has two targets."""
    shutil.copytree(model, folder / "model")
    write_tiny_data(folder)
    (folder / "generic.txt").write_text("Some text about nothing in particular. " * 20)
    recipe = {
        "model": "model",
        "data": {"train": "train.jsonl", "test": "test.jsonl", "generic": "generic.txt"},
        "targets": ["cpu-int4", "cpu-fp32"],
    }
    return Project(folder, recipe)
