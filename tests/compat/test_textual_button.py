"""Textual paints a radio button by the property that is overridden."""

from __future__ import annotations

import asyncio

from textual.app import App, ComposeResult
from textual.content import Content
from textual.widgets import RadioButton

from edgepeft_tui.compat.textual_button import SignedButton


class Yes(SignedButton):
    """Says whether it is chosen."""

    def sign(self) -> str:
        return "<y>" if self.value else "<n>"


class One(App[None]):
    def compose(self) -> ComposeResult:
        yield Yes("choose me")
        yield RadioButton("or me")


def test_the_sign_is_painted_in_the_place_of_textuals_own() -> None:
    async def painted() -> list[str]:
        async with One().run_test(size=(40, 10)) as pilot:
            button, other = pilot.app.query_one(Yes), pilot.app.query(RadioButton).last()
            assert isinstance(other._button, Content)
            assert RadioButton.BUTTON_INNER in other._button.plain
            lines = []
            for value in (False, True):
                button.value = value
                await pilot.pause()
                rows = [button.render_line(y).text for y in range(button.size.height)]
                lines.append("".join(rows).strip())
            return lines

    assert asyncio.run(painted()) == ["<n> choose me", "<y> choose me"]
