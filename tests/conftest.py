"""What every test shares: a cache and a history of its own, and tiny models made once a session."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.tiny import write_tiny_model

ModelMaker = Callable[..., Path]

# The same examples in every run, however slow the machine; nothing is kept between runs.
settings.register_profile("same", deadline=None, derandomize=True, database=None)
settings.load_profile("same")

if importlib.util.find_spec("torch") is None:
    # These need the libraries of the extras from their first import; the rest runs without.
    collect_ignore = [
        "checkpoints",
        "exporters",
        "fidelity",
        "merging",
        "methods",
        "quantization",
        "training",
    ]


@pytest.fixture(autouse=True)
def _own_places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the digest cache and the list of runs out of the user's home."""
    root = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("EDGEPEFT_CACHE", str(root / "cache"))
    monkeypatch.setenv("EDGEPEFT_STATE", str(root / "state"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> ModelMaker:
    """``tiny_model(family, **options)``: the folder of a tiny model; not to be changed."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    made: dict[Any, Path] = {}

    def get(family: str, **options: Any) -> Path:
        key = (family, *sorted(options.items()))
        if key not in made:
            made[key] = write_tiny_model(tmp_path_factory.mktemp(family), family, **options)
        return made[key]

    return get
