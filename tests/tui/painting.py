"""What the app paints, cell by cell, and how far its colours are apart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from rich.cells import cell_len
from rich.color import Color as RichColor
from textual.color import Color
from textual.errors import NoWidget
from textual.geometry import Region
from textual.widget import Widget

from edgepeft_tui.colours import contrast

LINES = "╭╮╰╯─│┌┐└┘"
"""Lines between boxes: nobody needs to see them."""


@dataclass(frozen=True)
class Cell:
    """One cell of the screen: its character and the two colours it is painted in."""

    text: str
    ink: Color
    ground: Color
    underlined: bool = False

    @property
    def contrast(self) -> float:
        """Of the character against what is behind it."""
        return contrast(self.ink, self.ground)

    @property
    def marked(self) -> bool:
        """Whether anything is painted on the ground."""
        return self.underlined or not self.text.isspace()


async def repainted(app: Any) -> None:
    """Wait until what has changed is on the screen; the pilot's own ``pause`` asks every widget first."""
    done = asyncio.Event()
    app.screen.call_after_refresh(done.set)
    await done.wait()


def seen_part(screen: Any, widget: Widget) -> Region:
    """The part of a widget that is on the screen; nothing of one that isn't shown."""
    try:
        return cast("Region", screen.find_widget(widget).visible_region)
    except NoWidget:
        return Region()


def painted(app: Any) -> list[list[Cell]]:
    """The rows of the screen on top as it was painted last."""
    strips = app.screen._compositor.render_strips()
    return [list(_cells(strip)) for strip in strips]


def _cells(strip: Any) -> Iterator[Cell]:
    for segment in strip:
        if segment.control:
            continue
        style = segment.style
        assert style is not None
        ground = _colour(style.bgcolor)
        blank = segment.text.isspace() and not style.underline and not style.reverse
        ink = ground if blank else _colour(style.color)
        if style.reverse:
            ink, ground = ground, ink
        assert not style.dim, "dim is whatever the terminal makes of it"
        for character in segment.text:
            for _ in range(cell_len(character)):
                yield Cell(character, ink, ground, bool(style.underline))


def _colour(colour: RichColor | None) -> Color:
    assert colour is not None, "a cell without a colour of its own has whatever the terminal has"
    return Color(*colour.get_truecolor())


def differs_visibly(one: Cell, other: Cell, least: float) -> bool:
    """Whether a cell has changed so that it is seen: its ground, its sign or its sign's colour, by ``least``."""
    if contrast(one.ground, other.ground) >= least:
        return True
    if one.text != other.text or one.underlined != other.underlined:
        # What is painted now was ground before, or the other way round.
        return max(cell.contrast for cell in (one, other) if cell.marked) >= least
    return one.marked and contrast(one.ink, other.ink) >= least


def raw_text(app: Any) -> str:
    """All characters that the screen on top sends to the terminal, those without width too."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)
