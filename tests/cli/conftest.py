"""One finished build of a tiny model, shared by the tests that look at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.command import build_json, write_recipe
from tests.tiny import write_tiny_data, write_tiny_model


@dataclass(frozen=True)
class Built:
    """A recipe, the folder it was built in, and what ``build --json`` printed."""

    recipe: Path
    out: Path
    result: dict[str, Any]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A tiny Llama trained and built for two targets."""
    root = tmp_path_factory.mktemp("built")
    recipe = write_recipe(
        root / "tiny.yaml",
        write_tiny_model(root / "model", "llama"),
        write_tiny_data(root / "data"),
        targets=["cpu-int8", "cpu-fp32"],
    )
    return Built(recipe, root / "run", build_json(recipe, "--out", root / "run"))
