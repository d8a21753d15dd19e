"""One real build of SmolLM2 with few steps, shared by the tests in this folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgepeft.models import KNOWN_MODELS, packaged_file
from tests.command import edgepeft

RECIPE = Path(__file__).resolve().parents[2] / "samples" / "recipes" / "home-control.yaml"
SHORTER = (
    *("--set", "training.max_steps=14"),
    *("--set", "training.eval_rows=8"),
    *("--set", "data.max_test_rows=24"),
    *("--set", "targets=[cpu-int4, cpu-int8]"),
    # So short a training leaves answers on a knife's edge; the tests set bounds of their own.
    *("--set", "gates.max_exact_match_drop=null"),
    *("--set", "gates.max_task_kl=null"),
)


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``build --json`` prints for the demo's recipe, cut short: 14 steps, 24 test rows."""
    if packaged_file(KNOWN_MODELS["smollm2-135m-instruct"]) is None:
        pytest.skip("the default model's package is not installed (make install does)")
    done = edgepeft(
        "build",
        RECIPE,
        "--out",
        tmp_path_factory.mktemp("real") / "run",
        *SHORTER,
        "--json",
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result
