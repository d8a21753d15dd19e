"""A small fleet on disk: a customer whose adapter is trained, one who brings theirs, and one who is mistaken."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.command import edgepeft, write_recipe
from tests.stages import write_adapter
from tests.tiny import write_tiny_data, write_tiny_model

TRAINING = {"max_steps": 12, "batch_size": 4, "learning_rate": 0.01, "save_steps": 2}


@dataclass(frozen=True)
class BuiltFleet:
    """A recipe with a matrix, where it was built, what ``build --json`` printed, and the events on the way."""

    recipe: Path
    out: Path
    result: dict[str, Any]
    events: list[dict[str, Any]]
    exit_status: int


def write_fleet(root: Path, **sections: Any) -> Path:
    """The recipe of a fleet with its model, data and adapter below ``root``; ``sections`` replace whole keys."""
    model = write_tiny_model(root / "model", "llama")
    train, test = write_tiny_data(root / "data")
    write_adapter(model, root / "adapters" / "zeta", target_modules=["q_proj"])
    matrix = {
        "customer": {
            "acme": {"data.train": str(train), "training": TRAINING},
            "mistaken": {"data.train": "nowhere.jsonl"},
            "zeta": {"adapter": "adapters/zeta", "merge.grid": "none"},
        }
    }
    defaults = {"targets": ["cpu-int8", "cpu-fp32"], "matrix": matrix, "training": None}
    return write_recipe(root / "fleet.yaml", model, (train, test), **{**defaults, **sections})


def events_of(run: Path) -> list[dict[str, Any]]:
    """The events of a run's latest build."""
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def adapter_bytes(folder: str) -> bytes:
    """The weights of an adapter."""
    return (Path(folder) / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> BuiltFleet:
    """The fleet built on this machine, two stages at a time."""
    root = tmp_path_factory.mktemp("fleet")
    recipe = write_fleet(root)
    done = edgepeft("build", recipe, "--out", root / "run", "--json", "--jobs", "2")
    assert done.returncode == 2, done.stderr
    result = json.loads(done.stdout)
    return BuiltFleet(recipe, root / "run", result, events_of(root / "run"), done.returncode)
