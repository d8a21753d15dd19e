"""The bundles of every case, built once a session."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.encoders.chain import ERROR
from tests.stages import carry_chain

Find = Callable[..., Path]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Find:
    """``built(case, stage)``: a stage's folder of a case; fails with what the stage raised."""
    root = tmp_path_factory.mktemp("encoders")
    carry_chain("tests.encoders.chain", root)

    def find(case: str, stage: str) -> Path:
        folder = root / case / stage
        if not folder.is_dir():
            pytest.fail((root / case / ERROR).read_text())
        return folder

    return find


def result_of(folder: Path) -> dict[str, Any]:
    """What a stage's manifest says came out of it."""
    found: dict[str, Any] = json.loads((folder / "edgepeft.json").read_text())["result"]
    return found
