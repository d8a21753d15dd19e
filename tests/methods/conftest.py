"""Every case of the chain, carried once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stages import ERROR, carry_chain


@pytest.fixture(scope="session")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``carried(case)``: the folder of a case; fails with what its stage raised."""
    root = tmp_path_factory.mktemp("methods")
    carry_chain("tests.methods.chain", root)

    def find(case: str) -> Path:
        if (root / case / ERROR).is_file():
            pytest.fail((root / case / ERROR).read_text())
        return root / case

    return find
