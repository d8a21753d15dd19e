"""The real model as a hot-swap bundle: its adapter swapped in is the adapter that was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgepeft.hot_swap.store import add_adapter
from edgepeft.runtime import Bundle, Runtime
from tests.command import edgepeft
from tests.real.conftest import RECIPE, SHORTER

pytestmark = pytest.mark.real


def test_an_adapter_swapped_in_is_the_one_that_was_trained(smollm2: dict[str, Any]) -> None:
    """On an int8 base, whose rounding is next to nothing; the base without it knows nothing of the task."""
    done = edgepeft(
        "build",
        RECIPE,
        "--out",
        smollm2["run"],
        *SHORTER,
        *("--set", "targets=[{name: swapped, like: cpu-int8, adapters: hot-swap}]"),
        "--json",
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {"train", "reference"} <= set(result["reused"])
    (bundle,) = result["bundles"]
    (adapter,) = bundle["adapters"]
    assert (adapter["trained_on"], adapter["same_base"]) == ("nf4", False)
    fidelity = adapter["fidelity"]
    assert fidelity["task_kl"] < 0.005
    assert fidelity["generic_kl"] < 0.01
    assert fidelity["recovery"] == pytest.approx(1.0, abs=0.02)

    opened = Bundle.open(bundle["path"])
    added = add_adapter(opened, "again", Path(smollm2["adapter"]))
    assert added.facts["rank"] == 16
    runtime = Runtime(opened)
    prompt = "Please turn on the heater in the attic."
    names = ("base", adapter["name"], "again")
    base, first, again = (
        runtime.complete(prompt, adapter=name, max_new_tokens=32).text for name in names
    )
    assert first == again != base
