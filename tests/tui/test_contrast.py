"""Everything that is painted can be read: contrast of every cell, on every screen, in every theme there is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from textual.color import Color
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Input

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.colours import (
    PART_CONTRAST,
    TEXT_CONTRAST,
    contrast,
    of_256,
    readable,
    readable_variables,
)
from edgepeft_tui.themes import DARK, LIGHT
from tests.tui.painting import LINES, Cell, painted, repainted, seen_part
from tests.tui.still import MORE_PLACES, PLACES, go_to, hold_still

IN_EVERY_THEME = ("home", "runs", "run", "result", "chat", "step-data", "step-targets", "errors")
"""Places that have every kind of text between them; the others are looked at in the wizard's own themes."""
BARS = frozenset("█▉▊▋▌▍▎▏▐▕▁▂▃▄▅▆▇▔━┃┏┓┗┛▛▜▙▟▀") | {chr(code) for code in range(0x2800, 0x2900)}
"""What is drawn, not written: bars, curves, edges, signs of focus."""


ROWS = ("row", "row-focus")
WORDS = ("accent", "success", "warning", "error")


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_still(monkeypatch)


def test_ratios_are_those_of_the_standard() -> None:
    black, white, grey = (Color.parse(name) for name in ("#000000", "#ffffff", "#767676"))
    assert contrast(black, white) == pytest.approx(21)
    assert contrast(white, white) == 1
    # The lightest grey that passes on white, as every table of them has it.
    assert contrast(grey, white) == pytest.approx(4.54, abs=0.005)
    moved = readable(Color.parse("#aaaaaa"), [white], 4.5)
    assert 4.5 <= contrast(moved, white) < 5
    assert readable(black, [white], 4.5) == black


@pytest.mark.parametrize("name", list(EdgepeftApp().available_themes))
def test_every_theme_has_colours_that_can_be_told_apart(name: str) -> None:
    theme = EdgepeftApp().available_themes[name]
    made = readable_variables(theme.to_color_system().generate() | theme.variables)
    colours = {key: Color.parse(made[key]) for key in made if made[key].startswith("#")}
    for ground in (
        "background",
        "surface",
        "panel",
        "field",
        "field-focus",
        "row",
        "row-focus",
        "button",
    ):
        for ink in (
            "foreground",
            "muted",
            "text-accent",
            "text-success",
            "text-warning",
            "text-error",
        ):
            assert contrast(colours[ink], colours[ground]) >= TEXT_CONTRAST, (ink, ground)
        for part in ("bar", "focus", "muted"):
            assert contrast(colours[part], colours[ground]) >= PART_CONTRAST, (part, ground)
    assert contrast(colours["focus"], colours["rule"]) >= PART_CONTRAST
    assert contrast(colours["on-focus"], colours["focus"]) >= TEXT_CONTRAST


@pytest.mark.parametrize("name", list(EdgepeftApp().available_themes))
def test_colours_are_told_apart_by_a_terminal_of_256(name: str) -> None:
    theme = EdgepeftApp().available_themes[name]
    generated = theme.to_color_system().generate() | theme.variables
    made = readable_variables(generated, of_256)
    seen = {key: of_256(Color.parse(made[key])) for key in made if made[key].startswith("#")}
    for ground in ("background", "surface", "panel", "field", "field-focus", *ROWS, "button"):
        for ink in ("foreground", "muted", *(f"text-{word}" for word in WORDS)):
            assert contrast(seen[ink], seen[ground]) >= TEXT_CONTRAST, (ink, ground)
        for part in ("bar", "focus"):
            assert contrast(seen[part], seen[ground]) >= PART_CONTRAST, (part, ground)
    assert contrast(seen["on-focus"], seen["focus"]) >= TEXT_CONTRAST


@pytest.mark.parametrize("place", ["home", "runs", "run", "result", "compare", "step-targets"])
def test_what_a_terminal_of_256_colours_paints_can_be_read(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLORTERM", "")
    monkeypatch.setenv("TERM", "xterm-256color")

    async def look() -> None:
        app = EdgepeftApp()
        assert app.console.color_system == "256"
        async with app.run_test(size=(120, 50)) as pilot:
            await go_to(app, pilot, place)
            for theme in (DARK, LIGHT):
                app.theme = theme
                await repainted(app)
                rule = app.theme_variables["rule"].upper()
                faint = [
                    (x, y, cell.text, cell.ink.hex, cell.ground.hex)
                    for x, y, cell in _shown(app.screen, painted(app))
                    if cell.marked
                    and contrast(of_256(cell.ink), of_256(cell.ground)) < _least(cell)
                    and not (cell.text in LINES + "▏" and cell.ink.hex == rule)
                ]
                assert not faint, f"{theme}: {faint[:8]}"

    asyncio.run(look())


def _shown(screen: Screen[object], rows: list[list[Cell]]) -> Iterator[tuple[int, int, Cell]]:
    """The cells of a screen; of one that lies over another, those of its own widgets."""
    own = [child.region for child in screen.children] if isinstance(screen, ModalScreen) else None
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            if own is None or any(region.contains(x, y) for region in own):
                yield x, y, cell


def _least(cell: Cell) -> float:
    if cell.text in BARS or cell.text in LINES or (cell.underlined and cell.text.isspace()):
        return PART_CONTRAST
    return TEXT_CONTRAST


@pytest.mark.parametrize("place", [*PLACES, *MORE_PLACES])
def test_what_is_painted_can_be_read(place: str) -> None:
    async def look() -> None:
        app = EdgepeftApp()
        async with app.run_test(size=(120, 50)) as pilot:
            await go_to(app, pilot, place)
            for theme in app.available_themes if place in IN_EVERY_THEME else (DARK, LIGHT):
                app.theme = theme
                await repainted(app)
                rule = Color.parse(app.theme_variables["rule"])
                faint = [
                    (x, y, cell.text, round(cell.contrast, 2), cell.ink.hex, cell.ground.hex)
                    for x, y, cell in _shown(app.screen, painted(app))
                    if cell.marked
                    and cell.contrast < _least(cell)
                    and not (cell.text in LINES + "▏" and cell.ink == rule)
                ]
                assert not faint, f"{theme}: {faint[:8]}"

    asyncio.run(look())


@pytest.mark.parametrize("place", ["step-method", "runs", "chat", "picker"])
def test_an_empty_field_has_an_edge_that_is_seen(place: str) -> None:
    async def look() -> None:
        app = EdgepeftApp()
        async with app.run_test(size=(120, 50)) as pilot:
            await go_to(app, pilot, place)
            for field in app.screen.query(Input):
                with field.prevent(Input.Changed):
                    field.value = field.placeholder = ""
            app.screen.set_focus(None)
            looked_at = 0
            for theme in app.available_themes:
                app.theme = theme
                await repainted(app)
                rows = painted(app)
                for edged in app.screen.query("Input, SelectCurrent"):
                    seen = seen_part(app.screen, edged)
                    if seen.area and seen == edged.region:
                        looked_at += 1
                        for edge, around in _edges(rows, edged):
                            assert edge.marked, f"{theme}: {edged} {edge}"
                            for ground in (edge.ground, around.ground):
                                apart = contrast(edge.ink, ground)
                                assert apart >= TEXT_CONTRAST, f"{theme}: {edged} {apart}"
            assert looked_at >= len(app.available_themes)

    asyncio.run(look())


def test_a_field_as_faint_as_it_was_is_noticed() -> None:
    async def look() -> None:
        app = EdgepeftApp()
        async with app.run_test(size=(120, 50)) as pilot:
            await go_to(app, pilot, "runs")
            field = app.screen.query_one(Input)
            app.screen.set_focus(None)
            field.styles.border_left = field.styles.border_right = ("vkey", field.styles.background)
            await repainted(app)
            edge, around = next(_edges(painted(app), field))
            assert contrast(edge.ground, around.ground) < PART_CONTRAST
            assert contrast(edge.ink, around.ground) < PART_CONTRAST

    asyncio.run(look())


def _edges(rows: list[list[Cell]], field: Widget) -> Iterator[tuple[Cell, Cell]]:
    """The cells along the edge of a field, each with one beside the field: left, right, and of an input below."""
    region = field.region
    outside = rows[region.y][max(0, region.x - 1)]
    for y in range(region.y, region.bottom):
        yield rows[y][region.x], outside
        yield rows[y][region.right - 1], outside
    if isinstance(field, Input):
        for x in range(region.x + 1, region.right - 1):
            yield rows[region.bottom - 1][x], outside
