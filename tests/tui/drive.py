"""Driving the app as a user would, and reading what it shows."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from html import unescape
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Input
from textual.worker import Worker

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.draft import Draft
from edgepeft_tui.typed_ahead import TypedAhead

Scenario = Callable[[EdgepeftApp, Pilot[None]], Awaitable[None]]

_TEXT = re.compile(r'<text class="([^"]*)" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>')
_RECT = re.compile(r'<rect fill="([^"]*)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"')
_CELL, _LINE = 12.2, 24.4
"""Width and height of a cell in the pictures that Textual makes."""


def drive(
    scenario: Scenario, *, size: tuple[int, int] = (80, 24), draft: Draft | None = None
) -> None:
    """Run the app without a terminal and let ``scenario`` press its keys; its errors are the test's."""

    async def run() -> None:
        app = EdgepeftApp(draft=draft)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await scenario(app, pilot)
            await opened(pilot)

    asyncio.run(run())


async def opened(pilot: Pilot[Any]) -> None:
    """Wait until all that was typed is done, and a step that is being opened is there and has the focus."""
    app = pilot.app
    await until(pilot, lambda: not (_behind(app) or any(map(_mounts, app.workers))))
    await pilot.pause()


def _behind(app: Any) -> bool:
    return isinstance(app, TypedAhead) and app.behind


def _mounts(worker: Worker[Any]) -> bool:
    return worker.is_running and worker.group in ("walk", "parts", "adapters")


async def until(pilot: Pilot[Any], holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something holds; the test fails with what is on the screen if it never does."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError("it never came; the screen:\n" + text_of(pilot.app))
        await pilot.pause(0.05)


async def write(pilot: Pilot[Any], text: str) -> None:
    """Type text."""
    for character in text:
        await pilot.press({" ": "space", "/": "slash", "_": "underscore"}.get(character, character))


def picture(app: Any) -> str:
    """The screen as SVG, without a blinking cursor."""
    for field in app.screen.query(Input):
        field.cursor_blink = False
    svg: str = app.export_screenshot()
    return svg


def cells(svg: str) -> list[tuple[int, int, str, str]]:
    """(row, column, style class, text) of every piece of text in a picture."""
    found = []
    for style, x, y, text in _TEXT.findall(svg):
        if "matrix" in style or "title" in style:
            continue
        row, column = round(float(y) / _LINE - 0.8), round(float(x) / _CELL)
        found.append((row, column, style.rpartition("-")[2], unescape(text).replace("\xa0", " ")))
    return sorted(found)


def text_of(app: Any) -> str:
    """The screen as lines of text."""
    return lines_of(picture(app))


def told(app: Any) -> str:
    """The latest notice in the corner of the screen."""
    return next((str(notice.message) for notice in reversed(list(app._notifications))), "")


def lines_of(svg: str) -> str:
    """A picture as lines of text."""
    rows: dict[int, str] = {}
    for row, column, _, text in cells(svg):
        rows[row] = rows.get(row, "").ljust(column) + text
    return "\n".join(rows.get(row, "").rstrip() for row in range(max(rows, default=0) + 1))


def backgrounds(svg: str) -> list[tuple[int, int, int, str]]:
    """(row, column, cells, colour) of every coloured background in a picture."""
    return sorted(
        (round(float(y) / _LINE), round(float(x) / _CELL), round(float(width) / _CELL), colour)
        for colour, x, y, width in _RECT.findall(svg)
    )
