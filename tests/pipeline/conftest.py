"""A recipe to plan, for every test here that says nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ModelMaker
from tests.project import Project, write_project


@pytest.fixture
def project(tiny_model: ModelMaker, tmp_path: Path) -> Project:
    """One of its own around a tiny Llama."""
    return write_project(tiny_model("llama"), tmp_path)
