"""Checkpoints that several tests here read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ModelMaker
from tests.published import CASES, publish

Publisher = Callable[[str], Path]


@pytest.fixture(scope="session")
def published(tiny_model: ModelMaker, tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    """``published(case)``: a tiny Llama in one of the formats; ``float`` beside it is what its weights are."""
    made: dict[str, Path] = {}

    def get(case: str) -> Path:
        if case not in made:
            said, how = CASES[case]
            root = tmp_path_factory.mktemp(case)
            made[case] = publish(tiny_model("llama"), root / "rounded", said, **how)
        return made[case]

    return get
