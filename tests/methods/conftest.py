"""Every case of the chain, carried once a session."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.methods.chain import ERROR

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``carried(case)``: the folder of a case; fails with what its stage raised."""
    root = tmp_path_factory.mktemp("methods")
    done = subprocess.run(
        [sys.executable, "-m", "tests.methods.chain", str(root)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([".", "exporters"])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    def find(case: str) -> Path:
        if (root / case / ERROR).is_file():
            pytest.fail((root / case / ERROR).read_text())
        return root / case

    return find
