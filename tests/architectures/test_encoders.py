"""Encoders with each option of their configurations are exported exactly."""

from __future__ import annotations

import json

import pytest

from tests.architectures.encoders import CASES
from tests.stages import Find, carried_once


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Find:
    return carried_once("tests.architectures.encoders", tmp_path_factory)


@pytest.mark.parametrize("case", CASES)
def test_float_bundle_is_the_model(carried: Find, case: str) -> None:
    found = json.loads((carried(case, "out").parent / "result.json").read_text())
    assert found["spread"] > 0.05
    assert max(found["differences"]) < 5e-5
