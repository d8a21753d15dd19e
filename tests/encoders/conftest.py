"""The bundles of every case, built once a session."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.stages import Find, carried_once


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Find:
    """``built(case, stage)``: a stage's folder of a case; fails with what the stage raised."""
    return carried_once("tests.encoders.chain", tmp_path_factory)


def result_of(folder: Path) -> dict[str, Any]:
    """What a stage's manifest says came out of it."""
    found: dict[str, Any] = json.loads((folder / "edgepeft.json").read_text())["result"]
    return found
