"""What a run and its bundles are worth, in words and signs: gates, and whether anything was learned at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from edgepeft.evaluation.gates import learned_little
from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.result_words import files
from edgepeft_tui.verdicts import bundle_lines, run_verdict
from tests.tui.drive import drive, text_of, told, until
from tests.tui.still import hold_still

NOTHING = {"base_task_loss": 2.2208, "reference_task_loss": 2.2205}
MUCH = {"base_task_loss": 2.2208, "reference_task_loss": 0.0027}


@pytest.mark.parametrize(
    ("facts", "little"),
    [
        ({}, False),
        ({"base_task_loss": None, "reference_task_loss": None}, False),
        (MUCH, False),
        (NOTHING, True),
        ({**NOTHING, "base_exact_match": 0.0, "reference_exact_match": 0.0}, True),
        ({**NOTHING, "base_exact_match": 0.0, "reference_exact_match": 0.009}, True),
        # The loss may stand still while greedy answers become right.
        ({**NOTHING, "base_exact_match": 0.0, "reference_exact_match": 0.5}, False),
        ({**NOTHING, "base_accuracy": 0.5, "reference_accuracy": 0.9}, False),
        ({**NOTHING, "base_exact_match": None, "reference_exact_match": 0.9}, True),
        # Worse than its base is no better.
        ({"base_task_loss": 1.0, "reference_task_loss": 3.0}, True),
    ],
)
def test_a_reference_that_is_hardly_better_than_its_base_has_learned_little(
    facts: dict[str, Any], little: bool
) -> None:
    said = learned_little(facts)
    assert (said is not None) == little
    if said is not None:
        assert f"{facts['base_task_loss']:.4f}" in said


def _bundle(gates: Any, facts: dict[str, Any]) -> dict[str, Any]:
    return {"target": "cpu-int4", "path": "p", "bytes": 1, "gates": gates, "fidelity": facts}


def test_a_bundle_that_learned_little_has_a_warning_in_the_place_of_its_tick() -> None:
    [head, said] = bundle_lines(_bundle("passed", NOTHING))
    assert "✓" not in head + said
    assert "! " in head.replace("[/]", "")
    assert "learned little" in said
    assert "✓" in next(iter(bundle_lines(_bundle("passed", MUCH))))
    warned = {**_bundle("passed", MUCH), "warnings": ["a [word]"]}
    assert "a \\[word]" in "".join(bundle_lines(warned))
    warned = {**_bundle("passed", NOTHING), "warnings": [f"of no use: {learned_little(NOTHING)}"]}
    assert "of no use" not in "".join(bundle_lines(warned))
    missed = "min_reference_gain: 0.0003 < 0.01"
    lines = "".join(bundle_lines(_bundle([missed], NOTHING)))
    assert "failed its gates" in lines
    assert missed in lines
    assert "learned little" in lines
    bundle = {**_bundle("passed", MUCH), "adapters": [{"name": "a", **_bundle("passed", NOTHING)}]}
    assert "passed its gates, but learned little" in "".join(bundle_lines(bundle))


def test_a_runs_verdict_is_that_of_its_bundles() -> None:
    def run(state: str, *facts: dict[str, Any]) -> dict[str, Any]:
        bundles = [_bundle("passed", each) for each in facts]
        return {"state": state, "result": {"bundles": bundles}}

    assert run_verdict(run("done", MUCH)) == ("done", "done")
    assert run_verdict(run("done", MUCH, NOTHING)) == ("warning", "done, learned little")
    missed = run("gate missed", NOTHING)
    assert run_verdict(missed) == ("gate missed", "gate missed, learned little")
    assert run_verdict({"state": "interrupted"})[1] == "stopped, can be resumed"


def test_no_screen_shows_a_tick_for_a_run_that_learned_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hold_still(monkeypatch)
    file = Path("runs/first/run.json")
    record = json.loads(file.read_text())
    facts = record["result"]["bundles"][0]["fidelity"]
    facts |= {**NOTHING, "reference_exact_match": facts["base_exact_match"]}
    file.write_text(json.dumps(record))

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "! first  done, learned little" in text_of(app))
        await pilot.press("r")
        await until(pilot, lambda: "! done, learned little" in text_of(app))
        await pilot.press("down")
        await until(pilot, lambda: "! learned little: 0.0003 < 0.01" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: "! cpu-int4 passed its gates" in text_of(app))
        assert "(the adapter's loss on test rows is 2.2205" in text_of(app)
        figures = [f"{facts[name]:.4f}" for name in ("task_kl", "generic_kl")]
        shown = text_of(app).splitlines()
        [row] = [line for line in shown if all(figure in line for figure in figures)]
        assert "! passed" in row
        assert "✓" not in text_of(app).split("Layers")[0]
        await pilot.press("w")
        await until(pilot, lambda: "! done, learned little; Enter shows" in text_of(app))
        # Whoever watches is told the same when it ends.
        job = app.jobs.watch(file.parent)
        app.tell_end(job)
        await until(pilot, lambda: told(app) == "first: done, learned little")

    drive(scenario, size=(140, 60))


def test_a_bundles_folder_may_be_any_and_is_not_read_to_the_end(tmp_path: Path) -> None:
    for number in range(150):
        (tmp_path / f"{number}.bin").write_bytes(b"x")
    lines = list(files([{"path": str(tmp_path), "bytes": 150}]))
    assert len(lines) == 102
    assert "more than 100 files" in lines[-1]
    assert "gone" in list(files([{"path": "/nowhere\0", "bytes": 1}]))[1]
