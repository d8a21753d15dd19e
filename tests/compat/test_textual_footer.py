"""Textual tells the footer of keys through the method that is overridden, and makes it anew there."""

from __future__ import annotations

import asyncio

from textual.app import App, ComposeResult
from textual.widgets import Footer, Input

from edgepeft_tui.compat.textual_footer import KeyBar


class Keys(App[None]):
    """Two fields of the same keys; ``more`` changes the app's own."""

    BINDINGS = [("f2", "more", "More")]  # noqa: RUF012 (as Textual has it)
    bar: type[Footer] = Footer

    def compose(self) -> ComposeResult:
        yield Input(id="one")
        yield Input(id="two")
        yield self.bar()

    def action_more(self) -> None:
        self.bind("f3", "less", description="Less")
        self.refresh_bindings()


async def made_anew(bar: type[Footer], change: str) -> bool:
    """Whether the footer's widgets are others after the focus, or the keys, have changed."""

    class This(Keys):
        pass

    This.bar = bar
    async with This().run_test() as pilot:
        pilot.app.query_one("#one").focus()
        await pilot.pause()
        await pilot.pause()
        before = list(pilot.app.query_one(Footer).children)
        assert before
        await pilot.press(change)
        await pilot.pause()
        await pilot.pause()
        return list(pilot.app.query_one(Footer).children) != before


def test_a_change_of_focus_makes_textuals_footer_anew_and_leaves_ours() -> None:
    assert asyncio.run(made_anew(Footer, "tab")), "the footer compares by itself now"
    assert not asyncio.run(made_anew(KeyBar, "tab"))


def test_other_keys_make_ours_anew_too() -> None:
    assert asyncio.run(made_anew(KeyBar, "f2"))
