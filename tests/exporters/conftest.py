"""The bundles of every case, exported once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.exporters.chain import ERROR
from tests.stages import carry_chain

Find = Callable[..., Path]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Find:
    """``built(case, stage)``: a stage's folder of a case; fails with what the stage raised."""
    root = tmp_path_factory.mktemp("exported")
    carry_chain("tests.exporters.chain", root)

    def find(case: str, stage: str) -> Path:
        folder = root / case / stage
        if not folder.is_dir():
            pytest.fail((root / case / ERROR).read_text())
        return folder

    return find
