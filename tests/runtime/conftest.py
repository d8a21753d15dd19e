"""The bundles the runtime's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.fabricate import write_small_bundle, write_tiny_bundle


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A bundle of its own for each test, to be spoiled."""
    return write_small_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that runs; not to be changed."""
    pytest.importorskip("onnxruntime_genai")
    root = tmp_path_factory.mktemp("tiny")
    return write_tiny_bundle(root / "bundle", root)
