"""The bundles of every case, exported once a session."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.exporters.chain import ERROR

REPOSITORY = Path(__file__).resolve().parents[2]
Find = Callable[..., Path]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Find:
    """``built(case, stage)``: a stage's folder of a case; fails with what the stage raised."""
    root = tmp_path_factory.mktemp("exported")
    done = subprocess.run(
        [sys.executable, "-m", "tests.exporters.chain", str(root)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([".", "exporters"])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    def find(case: str, stage: str) -> Path:
        folder = root / case / stage
        if not folder.is_dir():
            pytest.fail((root / case / ERROR).read_text())
        return folder

    return find
