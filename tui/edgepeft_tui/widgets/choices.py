"""Boxes to choose with that say by a sign, not by a colour alone, whether they are chosen."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.strip import Strip
from textual.widgets import RadioButton, SelectionList

_BOX = 3
"""Cells that Textual's own button takes in front of a line: left side, sign, right side."""


class Checklist(SelectionList[str]):
    """A list in which several may be chosen: ``[x]`` is chosen, ``[ ]`` is not."""

    def render_line(self, y: int) -> Strip:
        """Textual's line with a box of ours in the place of its button, which holds an X either way."""
        strip = super().render_line(y)
        index = self.scroll_offset.y + y
        if index >= self.option_count:
            return strip
        chosen = self.get_option_at_index(index).value in self.selected
        _, sign, _, gap, *_ = strip
        style = (gap.style or Style()) + Style(meta=sign.style.meta if sign.style else None)
        if chosen:
            own = self.get_component_rich_style("selection-list--button-selected", partial=True)
            style += Style(color=own.color, bold=True)
        return Strip([Segment("[x]" if chosen else "[ ]", style), *list(strip)[_BOX:]])


class Choice(RadioButton):
    """One of a RadioSet: ``(●)`` is chosen, ``( )`` is not."""

    @property
    def _button(self) -> Content:
        """The sign in its brackets."""
        style = self.get_visual_style("toggle--button")
        return Content.assemble((f"({self.BUTTON_INNER if self.value else ' '})", style))
