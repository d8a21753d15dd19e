"""The bundles of every case, exported once a session."""

from __future__ import annotations

import pytest

from tests.stages import Find, carry_chain, finder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Find:
    """``built(case, stage)``: a stage's folder of a case; fails with what the stage raised."""
    root = tmp_path_factory.mktemp("exported")
    carry_chain("tests.exporters.chain", root)
    return finder(root)
