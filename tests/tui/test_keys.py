"""Keys that did nothing, or something else than what is seen."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from rich.text import Text
from textual.containers import VerticalScroll
from textual.pilot import Pilot
from textual.widgets import DataTable

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.draft import Draft
from edgepeft_tui.jobs import Jobs
from edgepeft_tui.screens.wizard import WizardScreen
from edgepeft_tui.speaker import Speaker
from edgepeft_tui.state import State
from edgepeft_tui.themes import DARK, LIGHT
from edgepeft_tui.widgets.conversation import Conversation
from edgepeft_tui.widgets.table import fill
from tests.tui.drive import drive, opened, text_of, until
from tests.tui.painting import painted
from tests.tui.still import SAID, hold_still, says


def test_a_key_on_the_choice_of_adapters_keeps_what_is_chosen() -> None:
    draft = Draft(Path.cwd(), "mine", {"model": "m"})
    draft.use_adapter("one")

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        wizard = app.screen
        assert isinstance(wizard, WizardScreen)
        wizard.show_step("Method")
        await until(pilot, lambda: "(●) Use an existing adapter" in text_of(app))
        await opened(pilot)
        assert app.focused is not None
        assert app.focused.id == "source"
        await pilot.press("space")
        await pilot.pause(0.2)
        assert not draft.trains
        await pilot.press("left", "space")
        await until(pilot, lambda: draft.trains)

    drive(scenario, draft=draft, size=(100, 40))


def test_a_long_talk_is_scrolled_from_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_still(monkeypatch)
    ready, _, done = SAID["chat"]
    said = "\n".join(f"line {number}" for number in range(200))
    says("chat", [ready, {"piece": said}, done])

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open_chat([Speaker(Path("chat").resolve())])
        await until(pilot, lambda: bool(app.screen.query(Conversation)))
        await until(pilot, lambda: "loaded in" in text_of(app))
        await pilot.press("w", "enter")
        await until(pilot, lambda: "line 199" in text_of(app))
        transcript = app.screen.query_one(".transcript", VerticalScroll)
        bottom = transcript.scroll_offset.y
        await pilot.press("pageup")
        await until(pilot, lambda: transcript.scroll_offset.y < bottom)
        assert app.focused is not None
        assert app.focused.id == "prompt"
        await pilot.press("pagedown")
        await until(pilot, lambda: transcript.scroll_offset.y == bottom)

    drive(scenario)


def test_marks_in_a_table_take_the_colours_of_another_theme(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hold_still(monkeypatch)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open("runs")
        await until(pilot, lambda: bool(app.screen.query(DataTable)))
        await until(pilot, lambda: "✓ done" in text_of(app))
        for _ in range(2):
            await pilot.press("ctrl+t")
            await pilot.pause(0.2)
            [tick] = [cell for row in painted(app) for cell in row if cell.text == "✓"]
            assert tick.ink.hex == app.theme_variables["text-success"]

    drive(scenario, size=(120, 40))


def test_a_tables_columns_are_wide_enough_in_the_first_frame_after_it_was_filled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hold_still(monkeypatch)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open("runs")
        await until(pilot, lambda: "✓ done" in text_of(app))
        table = app.screen.query_one(DataTable)
        # Nothing is awaited between the filling and the look: the table had no time to find widths itself.
        fill(table, [Text("a"), Text("state")], [[Text("sécond"), Text("✗")]], ["one"])
        widths = [column.width for column in table.ordered_columns]
        assert widths == [len("sécond"), len("state")]
        assert not any(column.auto_width for column in table.ordered_columns)
        await until(pilot, lambda: "sécond" in text_of(app))

    drive(scenario, size=(120, 40))


def test_the_theme_that_is_kept_is_painted_from_the_first_frame_on() -> None:
    State().put("theme", LIGHT)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        assert app.theme == LIGHT
        corner = painted(app)[3][0]
        assert corner.ground.hex == app.theme_variables["background"]
        assert corner.ground.brightness > 0.9
        await pilot.press("ctrl+t")
        await pilot.pause(0.2)
        assert app.theme == DARK

    drive(scenario)
    assert State().get("theme") == DARK


def test_a_build_that_ends_between_two_looks_is_told_once(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    job = jobs.start(["build", "there-is-none.yaml"], tmp_path / "runs/x", tmp_path)
    assert jobs.look() == []
    assert job.process is not None
    job.process.wait(60)
    time.sleep(0.1)
    assert jobs.look() == [job]
    assert job.state == "failed"
    assert "there-is-none.yaml" in job.error()
    assert jobs.look() == []
