"""A line of Textual's begins with the segments that are replaced."""

from __future__ import annotations

import asyncio

from textual.app import App, ComposeResult
from textual.widgets import SelectionList

from edgepeft_tui.compat.textual_selection_list import SignedList

OPTIONS = [("first", "1", True), ("second", "2", False)]


class Signed(SignedList):
    """``<x>`` is chosen."""

    def sign(self, chosen: bool) -> str:
        return "<x>" if chosen else "< >"


class Two(App[None]):
    def compose(self) -> ComposeResult:
        yield Signed(*OPTIONS, id="ours")
        yield SelectionList[str](*OPTIONS, id="theirs")


def test_the_first_three_segments_are_a_button_and_make_room_for_the_sign() -> None:
    async def painted() -> None:
        async with Two().run_test(size=(40, 20)) as pilot:
            ours, theirs = (
                pilot.app.query_one(Signed),
                pilot.app.query_one("#theirs", SelectionList),
            )
            for y, sign in enumerate(("<x> ", "< > ")):
                line = theirs.render_line(y)
                left, button, right, gap, *words = line
                assert [one.cell_length for one in (left, button, right, gap)] == [1, 1, 1, 1]
                assert gap.text == " "
                assert OPTIONS[y][0] in "".join(one.text for one in words)
                assert button.style is not None
                assert button.style.meta["option"] == y
                mine = ours.render_line(y)
                assert mine.text.startswith(sign)
                assert mine.cell_length == line.cell_length
                style = next(iter(mine)).style
                assert style is not None
                assert style.meta["option"] == y
            # A border is above the first line and left of it.
            await pilot.click("#ours", offset=(3, 2))
            assert ours.selected == ["1", "2"], "a click on the sign no longer chooses"

    asyncio.run(painted())
