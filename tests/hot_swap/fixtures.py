"""Fixtures that the tests of adapters, of the runtime with adapters, and of serving share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgepeft.hot_swap.store import add_adapter
from edgepeft.runtime import Bundle
from tests.hot_swap.chain import ADAPTERS
from tests.stages import Find, carried_once


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Find:
    """``built(case, name)``: a folder of a case, not to be changed; fails with what its building raised."""
    return carried_once("tests.hot_swap.chain", tmp_path_factory)


@pytest.fixture
def own(built: Find, tmp_path: Path) -> Path:
    """A bundle without adapters that a test may change."""
    return Path(shutil.copytree(built("llama", "cpu-fp32"), tmp_path / "bundle"))


@pytest.fixture(scope="session")
def filled(built: Find, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with all adapters of its case; not to be changed."""
    folder = tmp_path_factory.mktemp("filled") / "bundle"
    shutil.copytree(built("llama", "cpu-fp32"), folder)
    for name in ADAPTERS:
        add_adapter(Bundle.open(folder), name, built("llama", "adapters") / name)
    return folder
