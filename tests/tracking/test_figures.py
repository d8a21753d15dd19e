"""What the figures of bundles are called, and that nothing that is no figure is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepeft.events import Events
from edgepeft.models.tasks import GENERATION
from edgepeft.pipeline.tracking import figures_of
from edgepeft.tracking.runs import note_figures, open_runs, read_runs, told


def _entry(**more: Any) -> dict[str, Any]:
    measures = {"task": GENERATION, "exact_match": 0.5, "task_kl": 0.25, "recovery": float("nan")}
    return {"gates": "passed", "fidelity": {**measures, "generic_kl": None}, **more}


def test_a_figure_is_named_by_variant_target_and_adapter() -> None:
    own = _entry(name="own", gates=["max_task_kl: 0.25 > 0.05"])
    swapped = _entry(target="swap", bytes=10, adapters=[own])
    assert figures_of([swapped], "nf4/long") == {
        "nf4/long/swap/exact_match": 0.5,
        "nf4/long/swap/task_kl": 0.25,
        "nf4/long/swap/gates_passed": 1.0,
        "nf4/long/swap/own/exact_match": 0.5,
        "nf4/long/swap/own/task_kl": 0.25,
        "nf4/long/swap/own/gates_passed": 0.0,
        "nf4/long/swap/bytes": 10,
    }


def test_a_bundle_that_was_not_measured_has_none() -> None:
    assert figures_of([{"target": "cpu-int4", "bytes": 10, "gates": None, "fidelity": None}]) == {}


def test_figures_are_those_of_a_run_and_not_of_the_next(tmp_path: Path) -> None:
    events, figures = Events("train"), {"cpu-int4/task_kl": 0.25}

    def opened(*, anew: bool) -> dict[str, float]:
        with open_runs(["tensorboard"], "words", tmp_path, events, anew=anew):
            return told(read_runs(tmp_path), "tensorboard")

    assert opened(anew=True) == {}
    note_figures(tmp_path, ["tensorboard"], figures)
    note_figures(tmp_path, ["tensorboard"], {"cpu-int4/bytes": 10.0})
    assert opened(anew=False) == {**figures, "cpu-int4/bytes": 10.0}
    assert opened(anew=True) == {}
