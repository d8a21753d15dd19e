"""What the rail says of a step agrees with what is known of it: for every step an error is planted."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from textual.pilot import Pilot
from textual.widgets import Input

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.draft import Draft
from edgepeft_tui.draft_files import as_json, from_json, open_draft
from edgepeft_tui.raw_recipe import STEPS
from edgepeft_tui.screens.wizard import WizardScreen
from edgepeft_tui.step_marks import marks_of, note_plan
from edgepeft_tui.words import MARKS
from tests.conftest import ModelMaker
from tests.tiny import write_tiny_data
from tests.tui.drive import drive, opened, text_of, until

PLANTED = {
    "Model": ("model", "nowhere/at-all"),
    "Data": ("data.test", "gone.jsonl"),
    "Method": ("method.rank", 0),
    "Merge and quantize": ("merge.base", "melted"),
    "Targets": ("gates.max_task_kl", -1),
    "Review": ("nonsense", 1),
}


def _good(folder: Path, model: Path) -> Draft:
    write_tiny_data(folder)
    raw = {
        "model": str(model),
        "data": {"train": "train.jsonl", "test": "test.jsonl"},
        "training": {"max_steps": 2},
    }
    (folder / "good.yaml").write_text(yaml.safe_dump(raw))
    return open_draft(folder / "good.yaml")


def _states(draft: Draft) -> dict[str, str]:
    return {step: mark.state for step, mark in marks_of(draft).items()}


def _rail(app: EdgepeftApp) -> dict[str, tuple[str, str]]:
    """Step to its sign and its words, as they are on the screen."""
    rows = [line[:24] for line in text_of(app).splitlines()]
    found = {}
    for number, step in enumerate(STEPS, 1):
        at = next(index for index, row in enumerate(rows) if f"{number} {step}" in row)
        found[step] = (rows[at].split()[0], rows[at + 1].strip())
    return found


@pytest.mark.parametrize("step", STEPS)
def test_a_step_with_an_error_never_has_a_tick(
    step: str, tmp_path: Path, tiny_model: ModelMaker
) -> None:
    draft = _good(tmp_path, tiny_model("llama"))

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        wizard = app.screen
        assert isinstance(wizard, WizardScreen)
        await until(pilot, lambda: draft.findings.planned)
        await until(pilot, lambda: set(_rail(app).values()) == {("✓", "complete")})
        key, value = PLANTED[step]
        draft.put(key, value)
        wizard.changed()
        await until(pilot, lambda: _rail(app)[step] == ("✗", "1 error"))
        others = {name: said for name, said in _rail(app).items() if name != step}
        assert all(said[0] != "✗" for said in others.values())
        # What nothing vouches for any more has no tick either: the plan of a wrong recipe is no plan.
        assert step == "Review" or others["Review"] == ("·", "not checked yet")

    drive(scenario, draft=draft, size=(100, 30))


def test_an_error_that_only_looking_finds_is_on_the_rail_while_another_keeps_the_plan_away(
    tmp_path: Path, tiny_model: ModelMaker
) -> None:
    draft = _good(tmp_path, tiny_model("llama"))
    (tmp_path / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": 3\n')
    draft.put("method", {"rank": 0})

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        wizard = app.screen
        assert isinstance(wizard, WizardScreen)
        wizard.show_step("Data")
        await until(pilot, lambda: _rail(app)["Data"] == ("✗", "1 error"))
        assert "line 2" in draft.errors()["data.train"]
        # Another model by hand: the step looks at it, although no plan is made.
        wizard.show_step("Model")
        await opened(pilot)
        wizard.query_one("#row-model Input", Input).value = str(tmp_path / "none")
        await until(pilot, lambda: _rail(app)["Model"] == ("✗", "1 error"))
        assert _rail(app)["Method"] == ("✗", "1 error")
        # Another value takes the error away at once; whether it is right is not known yet.
        draft.put("data.train", "test.jsonl")
        wizard.show_errors()
        assert marks_of(draft)["Data"].words == "not checked yet"

    drive(scenario, draft=draft, size=(100, 30))


def test_a_file_name_that_is_none_is_an_error_of_the_review(tmp_path: Path) -> None:
    draft = Draft(tmp_path, raw={"model": "m"}, opened=set(STEPS))
    assert _states(draft)["Review"] == "open"
    draft.name = "a\x1b[2J"
    assert marks_of(draft)["Review"].words == "1 error"


def test_every_way_a_step_can_stand_has_a_sign_and_words_of_its_own(tmp_path: Path) -> None:
    raw = {"model": "m", "data": {"train": "a", "test": "b"}}
    draft = Draft(tmp_path, raw=raw)
    assert {mark.words for mark in marks_of(draft).values()} == {"not opened yet"}
    draft.opened |= set(STEPS)
    assert {mark.words for mark in marks_of(draft).values()} == {"not checked yet"}
    notes = ["quantize.head: is small", "the disk is nearly full", "the disk is old"]
    note_plan(draft, notes, fits=False)
    said = {step: mark.words for step, mark in marks_of(draft).items()}
    assert said["Merge and quantize"] == said["Model"] == "1 warning"
    assert said["Review"] == "2 warnings"
    assert said["Data"] == said["Method"] == said["Targets"] == "complete"
    # A value that was not there when it was planned is not known to be right; the rest is.
    draft.put("method.rank", 4)
    assert _states(draft)["Method"] == "open"
    assert _states(draft)["Targets"] == "done"
    draft.put("data.test", None)
    assert marks_of(draft)["Data"].words == "incomplete"
    draft.note_failure("data.train: no such file")
    assert marks_of(draft)["Data"].words == "1 error"
    signs = [MARKS[state][0] for state in ("unopened", "open", "invalid", "warning", "done")]
    assert len(set(signs)) == len(signs)


def test_which_steps_were_opened_is_kept(tmp_path: Path) -> None:
    draft = Draft(tmp_path, raw={"model": "m"})

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        wizard = app.screen
        assert isinstance(wizard, WizardScreen)
        await until(pilot, lambda: _rail(app)["Data"] == ("○", "not opened yet"))
        await pilot.press("ctrl+n")
        await until(pilot, lambda: _rail(app)["Data"] == ("·", "incomplete"))

    drive(scenario, draft=draft, size=(100, 30))
    assert draft.opened == {"Model", "Data"}
    assert from_json(as_json(draft)).opened == draft.opened
