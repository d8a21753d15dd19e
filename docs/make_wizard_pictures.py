"""Pictures of the wizard for the README, made by the app itself: ``python docs/make_wizard_pictures.py [RUN]``.

Writes docs/wizard-*.svg. RUN is the folder of a finished build, for the pictures of a run and of its result;
without it those two are left as they are.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.draft import Draft
from edgepeft_tui.screens.wizard import WizardScreen
from edgepeft_tui.state import State

DOCS = Path(__file__).parent
SIZE = (110, 34)
TIMEOUT = 60.0


async def take(name: str, place: str, seen: Callable[[EdgepeftApp], bool]) -> None:
    """Open a place, wait until what should be in the picture has come, and write it."""
    with tempfile.TemporaryDirectory() as folder:
        app = EdgepeftApp(state=State(Path(folder)))
        async with app.run_test(size=SIZE) as pilot:
            if place.startswith("step:"):
                app.open_draft(Draft.demo(Path.cwd()), place.removeprefix("step:"))
            else:
                app.open(place)
            for _ in range(int(TIMEOUT / 0.1)):
                await pilot.pause(0.1)
                if seen(app):
                    break
            await pilot.pause(1.0)
            path = DOCS / f"wizard-{name}.svg"
            path.write_text(app.export_screenshot(title="edgepeft tui"), encoding="utf-8")
            print(path)


def _planned(app: EdgepeftApp) -> bool:
    return isinstance(app.screen, WizardScreen) and app.screen.facts is not None


def _looked_over(app: EdgepeftApp) -> bool:
    panels = app.screen.query("#checks")
    return bool(panels) and "median" in str(panels.first().render())


def main() -> None:
    """Take every picture."""
    os.chdir(DOCS.parent)
    asyncio.run(take("data", "step:Data", _looked_over))
    asyncio.run(take("targets", "step:Targets", _planned))
    if len(sys.argv) > 1:
        run = Path(sys.argv[1]).resolve()
        asyncio.run(take("run", f"run:{run}", lambda app: True))
        asyncio.run(take("result", f"result:{run}", lambda app: True))


if __name__ == "__main__":
    main()
