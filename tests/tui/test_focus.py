"""Whatever can have the focus is painted so that one sees that it has."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Static

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.colours import PART_CONTRAST
from tests.tui.painting import differs_visibly, painted, repainted, seen_part
from tests.tui.still import MORE_PLACES, PLACES, go_to, hold_still

KINDS = ("step-data", "step-method", "step-targets", "result", "chat")
"""Places that have every kind of widget between them."""
PLACES_ALL = (*PLACES, *MORE_PLACES)
UNFOCUSED = ("jump", "choice")
"""Labels can't have the focus, and an open list closes when it loses it."""


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_still(monkeypatch)


async def _walk(pilot: Pilot[None], *, one_of_a_kind: bool = False) -> list[Widget]:
    """Give every widget that can have it the focus, and look at what has changed; those that were looked at.

    With ``one_of_a_kind`` the first of those that the style sheet does not tell apart stands for the others.
    """
    screen: Any = pilot.app.screen
    walked = list(screen.focus_chain)
    if one_of_a_kind:
        walked = list({_kind(widget): widget for widget in reversed(walked)}.values())
    for widget in walked:
        widget.scroll_visible(animate=False, immediate=True)
        screen.set_focus(None)
        await repainted(pilot.app)
        before = painted(pilot.app)
        screen.set_focus(widget, scroll_visible=False)
        await repainted(pilot.app)
        assert screen.focused is widget
        after = painted(pilot.app)
        region = seen_part(screen, widget)
        assert region.area, f"{widget} can have the focus and can't be seen"
        changed = sum(
            differs_visibly(before[y][x], after[y][x], PART_CONTRAST)
            for y in range(region.y, region.bottom)
            for x in range(region.x, region.right)
        )
        # A bar along its shorter side is the least.
        least = min(region.width, region.height, max(1, widget.content_size.height))
        assert changed >= least, f"{pilot.app.theme}: {widget}: {changed} cells of {region}"
    return walked


def _kind(widget: Widget) -> tuple[object, ...]:
    """What the style sheet may tell widgets apart by: kind, classes, and those of all that it lies in."""
    return tuple(
        (type(node), frozenset(node.classes) - {"-odd"}) for node in widget.ancestors_with_self
    )


@pytest.mark.parametrize("place", [place for place in PLACES_ALL if place not in UNFOCUSED])
def test_focus_is_seen_on_every_widget_of_every_screen(place: str) -> None:
    async def look() -> None:
        app = EdgepeftApp()
        async with app.run_test(size=(120, 40)) as pilot:
            await go_to(app, pilot, place)
            assert await _walk(pilot)

    asyncio.run(look())


@pytest.mark.parametrize("place", KINDS)
def test_focus_is_seen_in_every_theme(place: str) -> None:
    async def look() -> None:
        app = EdgepeftApp()
        async with app.run_test(size=(120, 40)) as pilot:
            await go_to(app, pilot, place)
            for theme in app.available_themes:
                app.theme = theme
                await repainted(app)
                assert await _walk(pilot, one_of_a_kind=True)

    asyncio.run(look())


def test_a_widget_that_hides_its_focus_is_noticed() -> None:
    class Secret(Static, can_focus=True):
        """It looks as before."""

    async def look() -> None:
        app = EdgepeftApp()
        async with app.run_test(size=(80, 24)) as pilot:
            await app.screen.query_one("#body").mount(Secret("nothing to be seen"))
            await pilot.pause()
            with pytest.raises(AssertionError, match=r"Secret\(\): 0 cells"):
                await _walk(pilot)

    asyncio.run(look())
