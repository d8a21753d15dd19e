"""A tiny llama twice: as a folder for lm_eval's hf model, and as the bundle of its float32 graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.fabricate import write_tiny_bundle
from tests.tiny import write_tiny_model


@dataclass(frozen=True)
class Twins:
    """The folder of the weights, and the bundle."""

    weights: Path
    bundle: Path

    def hf(self, weights: Path | None = None, **options: Any) -> Any:
        """lm_eval's own model of the weights, in float32."""
        from lm_eval.models.huggingface import HFLM

        folder = str(weights or self.weights)
        return HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=1, **options)


@pytest.fixture(scope="session", autouse=True)
def _own_rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what datasets makes of the tasks' rows out of the user's home; it looks when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("rows")))
        yield


@pytest.fixture(scope="session")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    pytest.importorskip("lm_eval")
    root = tmp_path_factory.mktemp("twins")
    # Larger weights than other tests': a distribution near uniform would hide a shift by one token.
    weights = write_tiny_model(root / "llama", "llama", std=0.16)
    return Twins(weights, write_tiny_bundle(root / "bundle", root, "fp32"))
