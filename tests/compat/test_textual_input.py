"""Textual paints and measures an Input by the property that is overridden."""

from __future__ import annotations

import asyncio

from rich.text import Text
from textual.app import App, ComposeResult
from textual.widgets import Input

from edgepeft_tui.compat.textual_input import ShowingInput


class Loud(ShowingInput):
    """Shows its text in capitals."""

    def shown(self) -> str:
        return self.value.upper()


class One(App[None]):
    def compose(self) -> ComposeResult:
        yield Loud("abc", compact=True)


def test_the_property_is_the_inputs_own() -> None:
    assert isinstance(Input.__dict__["_value"], property)


def test_another_text_is_painted_than_is_held() -> None:
    async def painted() -> tuple[str, str]:
        async with One().run_test(size=(20, 3)) as pilot:
            field = pilot.app.query_one(Loud)
            held = Input.__dict__["_value"]
            assert isinstance(held.fget(field), Text)
            return field.value, field.render_line(0).text

    value, line = asyncio.run(painted())
    assert value == "abc"
    assert line.startswith("ABC")
