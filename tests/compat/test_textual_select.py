"""A dropdown may go before it is made, which Textual's own may not."""

from __future__ import annotations

import asyncio

import pytest
from textual.app import App
from textual.css.query import NoMatches
from textual.widgets import Select

from edgepeft_tui.compat.textual_select import Dropdown


async def _made_and_gone(kind: type[Select[str]]) -> None:
    app: App[None] = App()
    async with app.run_test():
        for _ in range(5):
            dropdown = kind([("one", "1"), ("two", "2")], allow_blank=False)
            app.screen.mount(dropdown)
            dropdown.remove()


def test_a_dropdown_may_go_before_it_is_made() -> None:
    asyncio.run(_made_and_gone(Dropdown))


def test_textuals_own_still_may_not() -> None:
    with pytest.raises(NoMatches, match="SelectOverlay"):
        asyncio.run(_made_and_gone(Select))
