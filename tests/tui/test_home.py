"""The first screen: what it says of runs, drafts and this machine, and where its line of advice leads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.draft import Draft
from edgepeft_tui.draft_files import as_json
from edgepeft_tui.drafts import Drafts
from edgepeft_tui.home_words import next_step
from edgepeft_tui.screens.chat import ChatScreen
from edgepeft_tui.screens.home import HomeScreen
from edgepeft_tui.screens.result import ResultScreen
from edgepeft_tui.screens.wizard import WizardScreen
from edgepeft_tui.state import State
from edgepeft_tui.widgets.dialogs import Question
from edgepeft_tui.words import sparkline
from tests.tui.drive import drive, opened, text_of, told, until
from tests.tui.still import hold_still


def _home(app: EdgepeftApp) -> bool:
    return isinstance(app.screen, HomeScreen)


def _keep(*names: str) -> Drafts:
    drafts = Drafts(State())
    for name in names:
        drafts.keep(Draft(Path.cwd(), name, {"model": f"model-of-{name}"}))
    return drafts


def test_a_sparkline_has_its_width_and_goes_from_the_highest_to_the_lowest() -> None:
    assert sparkline([8, 7, 6, 5, 4, 3, 2, 1], 8) == "█▇▆▅▄▃▂▁"
    assert sparkline([2, 1], 4) == "██▁▁"
    assert sparkline([4, 2, 1, 1], 2) == "█▁"
    assert len(sparkline(range(1000), 30)) == 30
    assert sparkline([3, 3], 3) == "▅▅▅"
    assert sparkline([], 3) == ""


def test_the_next_step_is_that_of_what_was_worked_on_last() -> None:
    bundle = {"target": "cpu-int4", "path": "b", "bytes": 1, "gates": "passed", "fidelity": None}
    run = {"name": "r", "path": "r", "started": "2026-01-01T10:00:00+00:00", "state": "done"}
    built = {**run, "result": {"bundles": [bundle]}}
    before, after = 0.0, 4e9
    assert next_step([]).place == "demo"
    assert next_step([], ("mine", "key", before)).place == "draft:key"
    assert next_step([built], ("mine", "key", after)).place == "draft:key"
    assert next_step([built], ("mine", "key", before)).place == "chat:b"
    assert next_step([{**run, "state": "gate missed"}, built]).place == "result:r"
    assert next_step([{**run, "state": "interrupted"}, built]).place == "run:r"
    # A run that failed is no reason not to talk with what another has built.
    assert next_step([{**run, "state": "failed"}, built]).place == "chat:b"
    assert "why" in next_step([{**run, "state": "failed"}]).words
    at_work = {**run, "name": "w", "path": "w", "state": "running"}
    assert next_step([built, at_work], ("mine", "key", after)).place == "run:w"


def test_runs_stand_there_with_their_loss_and_lead_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_still(monkeypatch)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: text_of(app).count("loss 6.13") == 2)
        assert "▇" in text_of(app)
        assert "✗ second  gate missed" in text_of(app)
        await until(pilot, lambda: "16.00 GB free of 32.00 GB" in text_of(app))
        assert "CPU, WebGPU" in text_of(app)
        assert "see what to try: second missed a gate (g)" in text_of(app)
        await pilot.press("g")
        await until(pilot, lambda: isinstance(app.screen, ResultScreen))
        await until(pilot, lambda: "try quantize.algorithm: gptq" in text_of(app))
        await pilot.press("escape", "tab", "down", "enter")
        await until(pilot, lambda: "second  ›  gate missed" in text_of(app))
        await pilot.press("escape")
        shutil.rmtree("runs/second")
        await pilot.press("r", "escape")
        await until(pilot, lambda: "chat with what first has built (g)" in text_of(app))
        await pilot.press("g")
        await until(pilot, lambda: isinstance(app.screen, ChatScreen))

    drive(scenario, size=(160, 50))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_a_home_without_runs_proposes_the_demo(size: tuple[int, int]) -> None:
    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "the demo, in two keys" in text_of(app))
        if size[0] >= 120:
            assert "No runs yet." in text_of(app)
            # The real command is asked.
            await until(pilot, lambda: "free of" in text_of(app))
        await pilot.press("g")
        await until(pilot, lambda: isinstance(app.screen, WizardScreen))

    drive(scenario, size=size)


def test_each_recipe_has_a_draft_of_its_own_which_is_opened_and_discarded() -> None:
    _keep("one")

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "Continue one" in text_of(app))
        assert "go on with the draft one (g)" in text_of(app)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, WizardScreen))
        await opened(pilot)
        await pilot.press("end", "x")
        await until(pilot, lambda: len(app.drafts.kept()) == 2)
        await pilot.press("ctrl+n")
        await opened(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: _home(app) and "Continue run" in text_of(app))
        assert text_of(app).index("Continue run") < text_of(app).index("Continue one")
        assert "draft: smollm2-135m-instructx" in text_of(app)
        await pilot.press("g")
        await until(pilot, lambda: "run  ›  Data" in text_of(app))
        await pilot.press("escape", "home", "down", "enter")
        await until(pilot, lambda: "one  ›  Model" in text_of(app))
        await opened(pilot)
        assert app.screen.query_one("#row-model Input", Input).value == "model-of-one"
        await pilot.press("escape")
        menu = app.screen.query_one("#menu", OptionList)
        menu.highlighted = next(
            at for at, one in enumerate(menu.options) if "Continue one" in str(one.prompt)
        )
        await until(pilot, lambda: "x Discard" in text_of(app))
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Question))
        await pilot.press("n")
        assert len(app.drafts.kept()) == 2
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Question))
        await pilot.press("y")
        await until(pilot, lambda: "Continue one" not in text_of(app))
        assert [draft.name for draft in app.drafts.kept()] == ["run"]
        await pilot.press("end")
        await until(pilot, lambda: "x Discard" not in text_of(app))

    drive(scenario)
    assert [draft.name for draft in Drafts(State()).kept()] == ["run"]


def test_a_form_that_was_only_looked_at_is_no_draft() -> None:
    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        for key in ("n", "enter"):
            await pilot.press(key)
            await until(pilot, lambda: isinstance(app.screen, WizardScreen))
            await opened(pilot)
            await pilot.press("ctrl+n")
            await opened(pilot)
            await pilot.press("escape")
            await until(pilot, lambda: _home(app))
        assert not app.drafts.kept()
        assert "Continue" not in text_of(app)

    drive(scenario)


def test_many_drafts_are_listed_when_they_are_asked_for() -> None:
    _keep("a", "b", "c", "d", "e")

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "All drafts" in text_of(app))
        assert text_of(app).count("Continue") == 3
        await pilot.press("down", "down", "down", "enter")
        await until(pilot, lambda: text_of(app).count("Continue") == 5)
        assert "All drafts" not in text_of(app)

    drive(scenario, size=(80, 40))


def test_a_draft_is_renamed_and_takes_no_other_with_it() -> None:
    drafts = _keep("run", "run-2")
    [other, renamed] = sorted(drafts.kept(), key=lambda draft: draft.name)
    # On the way to another name one types the name that the other has.
    for name in ("run-", "run", "run-", "run-3"):
        renamed.name = name
        drafts.keep(renamed)
    again = Drafts(State())
    assert again.names() == {"run", "run-3"}
    assert again.find(other.kept_as) == other


def test_a_draft_of_an_earlier_version_is_found_once() -> None:
    old = as_json(Draft(Path.cwd(), "old", {"model": "m", "targets": ["cpu-int4"]}))
    del old["step"]
    state = State()
    state.put("draft", old)
    state.put("step", "Method")

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "Continue old" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: "old  ›  Method" in text_of(app))

    drive(scenario)
    assert State().get("draft") is None
    assert [draft.name for draft in Drafts(State()).kept()] == ["old"]


@pytest.mark.parametrize("form", [b"", b"{", b"[]", b"\xff", b'{"raw": 3}', b"[" * 100_000])
def test_a_damaged_draft_is_named_and_the_others_are_there(form: bytes) -> None:
    _keep("sound")
    Path("state/drafts/broken.json").write_bytes(form)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "Continue sound" in text_of(app))
        assert told(app) == "drafts/broken.json: the draft is damaged and was left out"

    drive(scenario)


def test_a_draft_that_is_run_is_one_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_still(monkeypatch)
    _keep("mine", "other")

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.jobs.start = lambda *given: None  # type: ignore[method-assign,assignment]
        mine = next(draft for draft in app.drafts.kept() if draft.name == "mine")
        app.open(f"draft:{mine.kept_as}")
        await until(pilot, lambda: isinstance(app.screen, WizardScreen))
        await opened(pilot)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: app.drafts.names() == {"other"})
        assert json.dumps(app.state.get("models")) == '["model-of-mine"]'
        # What its form says while it is closed brings it back no more.
        app.drafts.keep(mine)
        assert app.drafts.names() == {"other"}

    drive(scenario)
