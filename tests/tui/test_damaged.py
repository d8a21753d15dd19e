"""Files of any form end nothing: every value of every file of a run is made another, and shown as damaged."""

from __future__ import annotations

import contextlib
import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from edgepeft.errors import InputError
from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.draft import Draft
from edgepeft_tui.draft_files import as_json, demo_draft, from_json
from edgepeft_tui.job import Job
from edgepeft_tui.job_words import figures_markup, stages_markup
from edgepeft_tui.layers import layers_of
from edgepeft_tui.past_training import past_training
from edgepeft_tui.raw_recipe import STEPS
from edgepeft_tui.records import cells_of, measures, sort_key
from edgepeft_tui.result_words import comparison_bars, files, what_to_try, wrong_answers
from edgepeft_tui.run_files import (
    Damaged,
    checked_record,
    known_records,
    read_comparison,
    read_json,
    read_record,
)
from edgepeft_tui.state import State
from edgepeft_tui.step_marks import marks_of
from edgepeft_tui.verdicts import bundle_lines, bundles_of, run_verdict
from tests.tui.drive import drive, opened, text_of, until
from tests.tui.still import ADVICE, hold_still

OTHERS: list[Any] = [None, True, -1, 10**400, 0.5, float("nan"), "x", "", [], [1], {}, {"a": 1}]
FORMS = [b"", b"{", b"[]", b"7", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"state": 3}']
"""What a file may hold that is no record."""
RUN = Path("runs/first")


@pytest.fixture(autouse=True)
def _runs(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_still(monkeypatch)


def _mutants(value: Any) -> Iterator[Any]:
    """The value with each of its parts made another, or left out, one at a time."""
    yield from OTHERS
    keys: Any = value.keys() if isinstance(value, dict) else ()
    keys = range(len(value)) if isinstance(value, list) else keys
    for key in keys:
        for other in _mutants(value[key]):
            changed = copy.copy(value)
            changed[key] = other
            yield changed
        without = copy.copy(value)
        del without[key]
        yield without


def _full_record() -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RUN / "run.json").read_text())
    [bundle] = record["result"]["bundles"]
    facts = bundle["fidelity"]
    facts |= {"base_task_loss": 2.0, "reference_task_loss": 0.1}
    adapter = {"name": "desk", "gates": ["it fell"], "fidelity": copy.deepcopy(facts)}
    bundle |= {"adapters": [adapter], "warnings": ["w"], "cell": "c"}
    bundle |= {"advice": ADVICE}
    return record | {"pid": 1 << 22, "recipe": "r.yaml", "error": None}


def _show(record: dict[str, Any]) -> None:
    """All that the screens make of a record."""
    assert isinstance(run_verdict(record)[1], str)
    assert all(isinstance(cell, str) for cell in cells_of(record))
    for by in ("started", "run", "state", "score", "size"):
        sort_key(record, by)
    bundles = bundles_of(record)
    for bundle in bundles:
        assert list(bundle_lines(bundle))
        if bundle["fidelity"]:
            measures(bundle["fidelity"])
    wrong_answers(bundles)
    what_to_try(bundles)
    list(files(bundles))


def test_a_record_of_any_form_is_shown_or_damaged() -> None:
    from edgepeft.evaluation.table import table_rows

    full = _full_record()
    _show(checked_record(full, RUN))
    assert checked_record(full, RUN)["state"] == "done"
    damaged = 0
    for mutant in _mutants(full):
        record = checked_record(mutant, RUN) if isinstance(mutant, dict) else {}
        damaged += record.get("state") == "damaged"
        _show(record)
        table_rows(bundles_of(record))
    assert damaged > 300


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_no_record_is_listed_as_damaged(form: bytes) -> None:
    (RUN / "run.json").write_bytes(form)
    record = read_record(RUN)
    assert record["state"] == "damaged"
    assert "run.json" in record["error"]
    found = {one["name"]: one["state"] for one in known_records(Path("runs"))}
    assert found == {"first": "damaged", "second": "gate missed"}


def test_numbers_that_no_process_can_have_end_nothing() -> None:
    for pid in (10**30, -1, 0, True, 1.5, "1"):
        record = _full_record() | {"state": "running", "pid": pid}
        (RUN / "run.json").write_text(json.dumps(record))
        assert read_record(RUN)["state"] == "damaged"
        assert known_records(Path("runs"))
        Job(RUN).stop()


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    with (tmp_path / "large.json").open("wb") as stream:
        stream.truncate(1 << 30)
    for name in ("pipe.json", "folder.json", "large.json"):
        with pytest.raises(Damaged, match=name):
            read_json(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")


def test_events_of_any_form_are_shown_or_left_out_with_a_word() -> None:
    events = [json.loads(line) for line in (RUN / "events.jsonl").read_text().splitlines()]
    kinds = {(event["event"], *event.get("metrics", ())): event for event in events}
    assert len(kinds) >= 6
    for event in kinds.values():
        lines = [json.dumps(mutant) for mutant in _mutants(event)]
        (RUN / "events.jsonl").write_text("\n".join(["no json", *lines]) + "\n")
        job = Job(RUN)
        job.refresh()
        assert job.progress.damaged
        stages_markup(job, 40)
        figures_markup(job)
        assert sum("damaged line" in text for _, _, text in job.progress.log) <= 5


def test_events_without_end_are_read_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepeft_tui.job.MOST_AT_ONCE", 1000)
    monkeypatch.setattr("edgepeft_tui.job.LONGEST_EVENT", 3000)
    events = RUN / "events.jsonl"
    events.write_text("x" * 10_000)
    job = Job(RUN)
    seen = []
    for _ in range(12):
        job.refresh()
        seen.append(job.progress.damaged)
    # A piece a time, and given up before its end has come.
    assert seen[:3] == [0, 0, 0]
    assert seen[-1] == 2
    with events.open("a") as stream:
        stream.write("\n" + json.dumps({"event": "started", "stage": "merge"}) + "\n")
    job.refresh()
    assert "merge" in job.progress.stages


def test_layers_comparisons_and_curves_of_any_form_are_shown_or_damaged() -> None:
    bundle = bundles_of(json.loads((RUN / "run.json").read_text()))[0]
    report = RUN / "bundles/cpu-int4/fidelity.json"
    manifest = RUN / "bundles/cpu-int4/edgepeft.json"
    stage = RUN / "stages/quantize-int4-0123456789ab/edgepeft.json"
    sound = json.loads(stage.read_text())
    report.unlink()
    for mutant in _mutants(sound):
        stage.write_text(json.dumps(mutant))
        layers_of(RUN)
        report.write_text(json.dumps({"weights": mutant}))
        layers_of(RUN, [bundle])
    stage.write_text(json.dumps(sound))
    report.unlink()
    for mutant in _mutants({"inputs": {"quantize": "0123456789ab0000"}}):
        manifest.write_text(json.dumps(mutant))
        layers_of(RUN, [bundle])
    file = RUN / "comparison.json"
    for mutant in _mutants(json.loads(file.read_text())):
        file.write_text(json.dumps(mutant))
        with contextlib.suppress(Damaged):
            comparison_bars(read_comparison(RUN))
    history = RUN / "scratch/train-0/checkpoints/checkpoint-4/trainer_state.json"
    history.parent.mkdir(parents=True)
    for mutant in _mutants({"max_steps": 9, "log_history": [{"step": 1, "loss": 0.5}]}):
        history.write_text(json.dumps(mutant))
        past_training(RUN)


def test_a_kept_draft_of_any_form_is_a_draft_or_refused(tmp_path: Path) -> None:
    kept = as_json(demo_draft(tmp_path))
    kept["raw"] |= {"adapters": [{"name": "a", "path": "b"}], "adapter": ["one", {"path": "two"}]}
    refused = 0
    for mutant in _mutants(kept):
        try:
            draft = from_json(mutant)
        except InputError:
            refused += 1
            continue
        assert set(marks_of(draft)) == set(STEPS)
        draft.toggle_target("cpu-int8")
        draft.toggle_target("cpu-int4")
        draft.add_adapter()
        draft.drop_adapter()
        draft.add_part("adapters")
        draft.drop_part("adapters")
        draft.put("data.columns", {"a": "b"})
        draft.yaml()
        as_json(draft)
    assert refused > 50


@pytest.mark.parametrize(
    "planted",
    [
        {"draft": {"raw": 3}},
        {"draft": [], "theme": ["x"], "step": {}, "models": {"a": 1}},
        {"draft": {"folder": "/nowhere/at/all", "name": "x\0y", "raw": {"model": "~nobody/x"}}},
        {"draft": {"folder": "f", "name": "n", "raw": {"model": "y" * 5000}}, "theme": "none"},
        {"draft": {"folder": "f", "name": "n", "raw": {"model": "a\0b"}}, "models": [1, "m"]},
    ],
)
def test_a_state_of_any_form_lets_every_step_be_opened(
    planted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The real core is asked; folder and state are the test's own nevertheless.
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEPEFT_STATE", str(tmp_path / "state"))
    state = State()
    for name, value in planted.items():
        state.put(name, value)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await pilot.pause(0.2)
        app.open("draft")
        await until(pilot, lambda: bool(app.screen.query("#steps")))
        for step in STEPS:
            app.screen.show_step(step)  # type: ignore[attr-defined]
            await opened(pilot)
            await pilot.pause(0.7)
        assert text_of(app)

    drive(scenario, size=(100, 40))


@pytest.mark.parametrize("form", FORMS)
def test_screens_of_a_damaged_run_say_so(form: bytes) -> None:
    places = [RUN / name for name in ("run.json", "events.jsonl", "comparison.json")]
    places += list(RUN.glob("stages/*/edgepeft.json"))
    for path in places:
        path.write_bytes(form)
    (RUN / "bundles/cpu-int4/fidelity.json").write_bytes(form)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "✗ first" in text_of(app))
        await pilot.press("r")
        await until(pilot, lambda: "✗ damaged" in text_of(app))
        for key in ("space", "down", "space", "c", "t", "r", "e", "o", "up", "enter"):
            await pilot.press(key)
            await pilot.pause(0.1)
        for place in ("run", "result"):
            app.open(f"{place}:{RUN.resolve()}")
            await until(pilot, lambda: "✗ run.json" in text_of(app))
            await pilot.press("l", "t", "b", "c")
            await pilot.pause(0.2)

    drive(scenario, size=(140, 60))


def test_a_draft_typed_into_any_shape_ends_nothing() -> None:
    draft = Draft(Path.cwd(), "mine", {"model": "m"})
    for key in ("adapter", "data.columns", "targets.0.name", "method.rank", "matrix", "combine"):
        for other in OTHERS:
            draft.put("targets", ["cpu-int4"])
            draft.put(key, other)
            assert set(marks_of(draft)) == set(STEPS)
            draft.add_adapter()
            draft.drop_adapter()
            draft.yaml()
