"""Pictures of the wizard for the README, made by the app itself: ``python docs/make_wizard_pictures.py [RUN]``.

Writes docs/wizard-*.svg. RUN is the folder of a finished build (``runs/NAME``), for the pictures of a run, of its
result and of a talk with its bundle beside its base; without it those are left as they are.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Input

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.draft_files import demo_draft
from edgepeft_tui.screens.wizard import WizardScreen
from edgepeft_tui.speaker import Speaker
from edgepeft_tui.state import State
from edgepeft_tui.widgets.conversation import Conversation

DOCS = Path(__file__).resolve().parent
SIZE = (110, 34)
TIMEOUT = 60.0
QUESTION = "Could you set the lamp in the nursery to 35 percent, please?"

Act = Callable[[EdgepeftApp, Pilot[None]], Awaitable[None]]


async def take(name: str, act: Act) -> None:
    """Bring the app to where the picture is to be taken, and write it."""
    with tempfile.TemporaryDirectory() as folder:
        app = EdgepeftApp(state=State(Path(folder)))
        async with app.run_test(size=SIZE) as pilot:
            await act(app, pilot)
            await pilot.pause(1.0)
            for field in app.screen.query(Input):
                field.cursor_blink = False
            path = DOCS / f"wizard-{name}.svg"
            path.write_text(app.export_screenshot(title="edgepeft tui"), encoding="utf-8")
            print(path)


async def _until(pilot: Pilot[None], holds: Callable[[], bool]) -> None:
    for _ in range(int(TIMEOUT / 0.1)):
        await pilot.pause(0.1)
        if holds():
            return
    raise SystemExit("what the picture should show never came")


def _step(name: str, seen: Callable[[EdgepeftApp], bool]) -> Act:
    async def act(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open_draft(demo_draft(Path.cwd()), name)
        await _until(pilot, lambda: seen(app))

    return act


def _place(place: str) -> Act:
    async def act(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open(place)

    return act


def _talk(bundle: Path) -> Act:
    async def act(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        app.open_chat([Speaker(bundle), Speaker(bundle, base=True)])
        await pilot.pause(0.5)
        chats = list(app.screen.query(Conversation))
        await _until(pilot, lambda: all(chat.ready for chat in chats))
        app.screen.query_one("#prompt", Input).value = QUESTION
        await pilot.press("enter")
        await _until(pilot, lambda: not any(chat.busy for chat in chats))

    return act


def _planned(app: EdgepeftApp) -> bool:
    return isinstance(app.screen, WizardScreen) and app.screen.facts is not None


def _looked_over(app: EdgepeftApp) -> bool:
    panels = app.screen.query("#checks")
    return bool(panels) and "median" in panels.first().said  # type: ignore[attr-defined]


def main() -> None:
    """Take every picture."""
    run = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
    os.chdir(DOCS.parent)
    asyncio.run(take("data", _step("Data", _looked_over)))
    asyncio.run(take("targets", _step("Targets", _planned)))
    if run is not None:
        # Paths are shown as from the folder that runs/ lies in.
        os.chdir(run.parent.parent)
        asyncio.run(take("run", _place(f"run:{run}")))
        asyncio.run(take("result", _place(f"result:{run}")))
        asyncio.run(take("chat", _talk(run / "bundles" / "cpu-int4")))


if __name__ == "__main__":
    main()
