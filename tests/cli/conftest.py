"""One finished build of a tiny model, shared by the tests that look at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.command import build_json, write_recipe
from tests.tiny import write_tiny_data, write_tiny_model


@dataclass(frozen=True)
class Built:
    """A recipe, the folder it was built in, and what ``build --json`` printed."""

    recipe: Path
    out: Path
    result: dict[str, Any]

    def carried(self, path: Path, **sections: Any) -> Path:
        """A recipe that carries the trained adapter to cpu-int8, or as ``sections`` say; nothing is trained."""
        data = self.recipe.parent / "data"
        return write_recipe(
            path,
            self.recipe.parent / "model",
            (data / "train.jsonl", data / "test.jsonl"),
            **{
                "method": None,
                "training": None,
                "adapter": self.result["adapter"],
                "targets": ["cpu-int8"],
                **sections,
            },
        )


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A tiny Llama trained and built for two targets."""
    root = tmp_path_factory.mktemp("built")
    recipe = write_recipe(
        root / "tiny.yaml",
        write_tiny_model(root / "model", "llama"),
        write_tiny_data(root / "data"),
        targets=["cpu-int8", "cpu-fp32"],
    )
    return Built(recipe, root / "run", build_json(recipe, "--out", root / "run"))
