"""Keys that come faster than the wizard makes its fields."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
import yaml
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Button

import edgepeft_tui.screens.wizard
from edgepeft.errors import InputError
from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.draft import Draft
from edgepeft_tui.draft_files import open_draft
from edgepeft_tui.screens.wizard import WizardScreen
from tests.tui.drive import drive, opened, until

KEYS = [
    *("f4", "f4", "f4", "tab", "shift+tab", "down", "up", "space", "enter", "left", "right"),
    *("ctrl+n", "ctrl+n", "ctrl+b", "a", "0", "backspace", "home", "end", "f1", "ctrl+s"),
]
PAUSES = [0.0, 0.0, 0.0, 0.01, 0.03, 0.1]


@pytest.mark.parametrize("seed", range(8))
def test_keys_in_a_hurry_break_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)

    async def late_answer(*_: object, **__: object) -> object:
        await asyncio.sleep(0.3 * chance.random())
        raise InputError("recipe: adapters.0.path: there is no such folder")

    monkeypatch.setattr(edgepeft_tui.screens.wizard, "ask", late_answer)
    monkeypatch.setattr(edgepeft_tui.screens.wizard, "PAUSE", 0.05)
    recipe = {
        "model": "m",
        "adapter": "one",
        "adapters": [{"name": "support", "path": "there"}],
        "targets": [{"name": "cpu-int4", "adapters": "hot-swap"}, "cpu-int8"],
    }
    Path("hurry.yaml").write_text(yaml.safe_dump(recipe))

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        assert isinstance(app.screen, WizardScreen)
        app.screen.show_step("Targets")
        pressing = []
        for _ in range(50):
            # Unlike the pilot's own ``press``, this doesn't wait until the app has done what the key says.
            pressing.append(asyncio.create_task(pilot.press(chance.choice(KEYS))))
            await asyncio.sleep(chance.choice(PAUSES))
        for press in pressing:
            press.cancel()
        await asyncio.gather(*pressing, return_exceptions=True)

    # Leaving the context raises what the app could not handle.
    drive(scenario, draft=open_draft(Path("hurry.yaml")), size=(120, 60))


def test_what_is_typed_while_a_step_opens_is_for_that_step() -> None:
    draft = Draft(Path.cwd(), "hurry", {"model": "m", "data": {"train": "before.jsonl"}})
    typed = ["ctrl+n", "ctrl+n", "tab", "tab", "tab", "7", "ctrl+n", "ctrl+n", "ctrl+n"]

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        wizard = app.screen
        assert isinstance(wizard, WizardScreen)
        # All at once, as a terminal sends what was typed while a machine was busy.
        for key in typed:
            app.post_message(Key(key, key if len(key) == 1 else None))
        await until(pilot, lambda: wizard.step == "Review" and not wizard.opening)
        assert draft.get("training.max_steps") == 7
        assert draft.get("data.train") == "before.jsonl"
        assert app.focused is wizard.query_one("#run")

    drive(scenario, draft=draft)


def test_a_part_added_while_the_form_is_made_anew_ends_nothing() -> None:
    recipe = {"model": "m", "targets": [{"name": "cpu-int4", "adapters": "hot-swap"}]}
    draft = Draft(Path.cwd(), "hurry", recipe)

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        wizard = app.screen
        assert isinstance(wizard, WizardScreen)
        wizard.show_step("Targets")
        await until(pilot, lambda: bool(wizard.query("#parts-adapters .add")))
        await opened(pilot)
        for _ in range(4):
            wizard.query_one("#parts-adapters .add", Button).press()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            wizard.action_advanced()
            await until(pilot, lambda: bool(wizard.query("#parts-adapters .add")))
            await opened(pilot)
        assert draft.parts("adapters") == 4

    drive(scenario, draft=draft, size=(120, 60))
