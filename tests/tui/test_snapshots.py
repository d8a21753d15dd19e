"""Every screen at three sizes and in two themes, held against how it looked when somebody last looked at it.

Size and theme change while a screen is open, as its user changes them, so what is shown follows both.

A snapshot is the screen's text, each line with a digest of its colours in front, so that a change can be read in
a diff. ``EDGEPEFT_SNAPSHOTS=write`` writes them anew. What depends on the machine (hardware, estimates, memory)
is handed in; whole paths against the real core are tested beside this file.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from pathlib import Path

import pytest
from textual.pilot import Pilot

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.themes import DARK, LIGHT
from tests.tui.drive import backgrounds, cells, lines_of, picture
from tests.tui.still import PLACES, go_to, hold_still

KEPT = Path(__file__).parent / "snapshots"
SIZES = {"160x50": (160, 50), "120x40": (120, 40), "80x24": (80, 24)}
THEMES = {"dark": DARK, "light": LIGHT}


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_still(monkeypatch)


async def _pictures(place: str) -> dict[str, str]:
    """The screen by size and theme."""
    app, found = EdgepeftApp(), {}
    async with app.run_test(size=SIZES["160x50"]) as pilot:
        app.theme = DARK
        await pilot.pause(0.1)
        await go_to(app, pilot, place)
        for size, cells_of_it in SIZES.items():
            await pilot.resize_terminal(*cells_of_it)
            for theme, name in THEMES.items():
                app.theme = name
                found[f"{size}.{theme}"] = snapshot(await _settled(app, pilot))
    return found


async def _settled(app: EdgepeftApp, pilot: Pilot[None]) -> str:
    """The picture once it has stayed the same for a second, however busy the machine is."""
    shown, same = "", 0
    for _ in range(150):
        await pilot.pause(0.2)
        now = picture(app)
        same = same + 1 if snapshot(now) == shown else 0
        shown = snapshot(now)
        if same >= 5:
            break
    return now


def snapshot(svg: str) -> str:
    """A picture as text: each line with a digest of its colours in front."""
    styles = dict(re.findall(r"\.terminal-\d+-(r\d+) \{ ([^}]*) \}", svg)) or dict(
        re.findall(r"\.[\w-]+-(r\d+)\s*\{([^}]*)\}", svg)
    )
    colours: dict[int, list[str]] = {}
    for row, column, style, _ in cells(svg):
        colours.setdefault(row, []).append(f"{column}:{styles.get(style, '?')}")
    for row, column, width, colour in backgrounds(svg):
        colours.setdefault(row, []).append(f"{column}+{width}:{colour}")
    lines = []
    for row, text in enumerate(lines_of(svg).split("\n")):
        digest = hashlib.sha256("|".join(colours.get(row, [])).encode()).hexdigest()[:6]
        lines.append(f"{digest}│{text}".rstrip())
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("place", PLACES)
def test_a_screen_looks_as_it_did(place: str) -> None:
    shown = asyncio.run(_pictures(place))
    if os.environ.get("EDGEPEFT_SNAPSHOTS") == "write":
        KEPT.mkdir(exist_ok=True)
        for form, text in shown.items():
            (KEPT / f"{place}.{form}.txt").write_text(text, encoding="utf-8")
    for form, text in shown.items():
        assert text == (KEPT / f"{place}.{form}.txt").read_text(encoding="utf-8"), form
