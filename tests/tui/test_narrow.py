"""In 40 columns every screen can be used: nothing lies beside it, and no column is pushed out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Button, DataTable, Footer, Input, Select

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.widgets.conversation import Conversation
from edgepeft_tui.widgets.page import Panel
from tests.tui.drive import drive, text_of, until
from tests.tui.painting import seen_part
from tests.tui.still import MORE_PLACES, PLACES, go_to, hold_still

SIZE = (40, 24)
LEAST_FIELD, LEAST_WORDS = 7, 26
"""Cells that something typed, or the words in a box, need at least."""


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_still(monkeypatch)


def _own(widget: Widget) -> bool:
    """Whether it is to fit: the footer is a list of keys that goes on, and a talk beside another is narrow."""
    return not any(isinstance(one, Footer | Conversation) for one in widget.ancestors_with_self)


# The palette is Textual's own.
@pytest.mark.parametrize("place", [one for one in (*PLACES, *MORE_PLACES) if one != "palette"])
def test_nothing_lies_beside_a_narrow_screen(place: str) -> None:
    async def look() -> None:
        app = EdgepeftApp()
        async with app.run_test(size=SIZE) as pilot:
            await go_to(app, pilot, place)
            shown = [w for w in app.screen.query("*") if w.is_on_screen and w.display and _own(w)]
            assert shown
            for widget in shown:
                parent: Any = widget.parent
                around = parent.region if isinstance(parent, Widget) else app.screen.region
                region = widget.region
                assert around.x <= region.x, widget
                assert region.right <= around.right, f"{widget}: {region} of {around}"
                if isinstance(widget, DataTable):
                    assert widget.virtual_size.width <= widget.content_size.width, widget
                elif isinstance(widget, Panel):
                    assert widget.content_size.width >= LEAST_WORDS, widget
                elif isinstance(widget, Input | Select):
                    assert widget.region.width >= LEAST_FIELD, widget

    asyncio.run(look())


@pytest.mark.parametrize("place", [*PLACES, *MORE_PLACES])
def test_whatever_can_have_the_focus_is_seen_in_its_whole_width(place: str) -> None:
    async def look() -> None:
        app = EdgepeftApp()
        async with app.run_test(size=SIZE) as pilot:
            await go_to(app, pilot, place)
            for widget in [one for one in app.screen.focus_chain if _own(one)]:
                widget.scroll_visible(animate=False, immediate=True)
                await pilot.pause()
                seen = seen_part(app.screen, widget)
                assert seen.area, f"{widget} is not seen"
                assert seen.width == widget.region.width, widget
                if isinstance(widget, Button):
                    assert widget.content_size.width >= len(str(widget.label)), widget

    asyncio.run(look())


def test_long_names_are_cut_and_columns_stay() -> None:
    name = "a-run-of-which-nobody-could-say-the-name-in-one-breath"
    record = json.loads(Path("runs/first/run.json").read_text())
    Path("runs/first/run.json").write_text(json.dumps({**record, "name": name}))

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await pilot.press("r")
        await until(pilot, lambda: "✓ done" in text_of(app))
        assert "a-run-of-whi" in text_of(app)
        assert "…" in text_of(app)
        assert "✗ gate missed" in text_of(app)
        await pilot.resize_terminal(120, 24)
        await until(pilot, lambda: "task KL" in text_of(app))
        await pilot.resize_terminal(*SIZE)
        await until(pilot, lambda: "task KL" not in text_of(app).splitlines()[2])

    drive(scenario, size=SIZE)


def test_the_figures_that_a_narrow_table_leaves_out_are_said() -> None:
    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(f"result:{Path('runs/first').resolve()}")
        await until(pilot, lambda: "exact match 0.125" in text_of(app))
        assert "✓ passed" in text_of(app)
        app.open(f"run:{Path('runs/first').resolve()}")
        await until(pilot, lambda: "loss ▇" in text_of(app))
        assert "✓ base" in text_of(app)
        assert "verify-cpu-int4 done" in text_of(app)

    drive(scenario, size=SIZE)
