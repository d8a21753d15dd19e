"""Every field takes back what was typed into it, by words, until it shows another text from outside."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Input

from edgepeft_tui.app import EdgepeftApp
from edgepeft_tui.draft import Draft
from edgepeft_tui.edits import MOST, Edits
from edgepeft_tui.screens.wizard import WizardScreen
from edgepeft_tui.widgets.entry import Entry
from tests.tui.drive import drive, opened, until, write
from tests.tui.still import hold_still


class _Line:
    """A text that is changed and told so."""

    def __init__(self, text: str = "") -> None:
        self.text, self.edits = text, Edits()

    def change(self, start: int, end: int, new: str) -> None:
        start, end = sorted((min(start, len(self.text)), min(end, len(self.text))))
        old = self.text[start:end]
        self.text = self.text[:start] + new + self.text[end:]
        if old != new:
            self.edits.note(start, old, new)

    def type(self, text: str) -> None:
        for sign in text:
            self.change(len(self.text), len(self.text), sign)

    def back(self) -> list[str]:
        """Every text on the way back to the first."""
        texts = []
        while (step := self.edits.undo(self.text)) is not None:
            self.text = step[0]
            texts.append(self.text)
        return texts


def test_words_are_steps_and_so_are_pastes_and_runs_of_deletions() -> None:
    line = _Line()
    line.type("runs/mine one  two")
    assert line.back() == ["runs/mine one", "runs/mine", "runs", ""]
    line = _Line("some words")
    for start in (9, 8, 7):
        line.change(start, start + 1, "")
    line.change(0, 1, "")
    line.change(0, 1, "")
    line.change(0, 0, "pasted")
    line.type("x")
    line.change(0, 3, "y")
    assert line.back() == ["pastedme wox", "pastedme wo", "me wo", "some wo", "some words"]
    # The same word typed in two places is two steps.
    line = _Line("ab")
    line.change(1, 1, "x")
    line.change(0, 0, "y")
    assert line.back() == ["axb", "ab"]


_CHANGES = st.tuples(st.integers(0, 9), st.integers(0, 9), st.text("ab /.", max_size=2))


@settings(max_examples=300, deadline=None)
@given(st.text("abc d", max_size=6), st.lists(_CHANGES, max_size=12))
def test_the_way_back_leads_to_the_first_text_and_forth_to_the_last(
    first: str, changes: list[tuple[int, int, str]]
) -> None:
    line = _Line(first)
    for change in changes:
        line.change(*change)
    last = line.text
    back = [last, *line.back()]
    assert back[-1] == first
    forth = [line.text]
    while (step := line.edits.redo(line.text)) is not None:
        line.text, cursor = step
        assert 0 <= cursor <= len(line.text)
        forth.append(line.text)
    assert forth == back[::-1]


def test_steps_are_bounded() -> None:
    line = _Line()
    line.type(" a" * (MOST + 50))
    assert len(line.back()) == MOST
    assert line.text == " a" * 50


def test_a_field_of_the_wizard_takes_back_and_does_again(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_still(monkeypatch)
    draft = Draft(Path.cwd(), "mine", {"model": "m"})

    async def scenario(app: EdgepeftApp, pilot: Pilot[None]) -> None:
        await opened(pilot)
        field = app.screen.query_one("#row-model Input", Input)
        field.focus()

        async def shows(*keys: str, text: str) -> None:
            await pilot.press(*keys)
            assert field.value == text
            await until(pilot, partial(_has, draft, text))

        await pilot.press("end")
        await write(pilot, "ine/two words")
        await shows("ctrl+z", text="mine/two")
        await shows("ctrl+z", text="mine")
        await shows("ctrl+y", text="mine/two")
        await shows("backspace", "backspace", text="mine/t")
        # What was taken back is gone once something else was done.
        await shows("ctrl+y", text="mine/t")
        await shows("ctrl+u", text="")
        await shows("ctrl+z", "ctrl+z", "ctrl+z", "ctrl+z", "ctrl+z", text="m")
        await shows("ctrl+shift+z", text="mine")
        # Another step, and back: the draft says the same, so the steps are still there.
        await pilot.press("ctrl+n")
        await opened(pilot)
        await pilot.press("ctrl+b")
        await opened(pilot)
        field.focus()
        await shows("ctrl+z", text="m")
        # Another value from outside has no way back to what was typed before.
        draft.put("model", "chosen")
        assert isinstance(app.screen, WizardScreen)
        app.screen.show_step("Model")
        await until(pilot, lambda: field.value == "chosen")
        field.focus()
        await shows("ctrl+z", "ctrl+y", text="chosen")

    drive(scenario, draft=draft, size=(120, 40))


def _has(draft: Draft, text: str) -> bool:
    return draft.text("model") == text


class _One(App[None]):
    """A field that takes digits alone."""

    def compose(self) -> ComposeResult:
        yield Entry("1", restrict=r"\d*", max_length=3)


def test_what_a_field_refuses_is_no_step() -> None:
    async def look() -> None:
        app = _One()
        async with app.run_test() as pilot:
            field: Any = app.query_one(Entry)
            field.focus()
            await pilot.press("2", "x", "3", "4", "ctrl+z", "ctrl+z")
            assert field.value == "1"
            await pilot.press("ctrl+y")
            assert (field.value, field.cursor_position) == ("123", 3)

    asyncio.run(look())
