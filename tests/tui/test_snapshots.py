"""Every screen at two sizes and in two themes, held against what it looked like when somebody last looked at it.

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
SIZES = {"80x24": (80, 24), "160x50": (160, 50)}


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_still(monkeypatch)


async def _picture(place: str, size: tuple[int, int], theme: str) -> str:
    app = EdgepeftApp()
    async with app.run_test(size=size) as pilot:
        app.theme = theme
        await pilot.pause(0.1)
        await go_to(app, pilot, place)
        return await _settled(app, pilot)


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


@pytest.mark.parametrize("theme", [DARK, LIGHT])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("place", PLACES)
def test_a_screen_looks_as_it_did(place: str, size: str, theme: str) -> None:
    shown = snapshot(asyncio.run(_picture(place, SIZES[size], theme)))
    kept = KEPT / f"{place}.{size}.{theme.removeprefix('edgepeft-')}.txt"
    if os.environ.get("EDGEPEFT_SNAPSHOTS") == "write":
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(shown, encoding="utf-8")
    assert shown == kept.read_text(encoding="utf-8")
