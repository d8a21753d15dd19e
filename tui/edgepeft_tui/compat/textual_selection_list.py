"""A list to choose from, each line with a sign of its own.

Written for textual 8.2. ``SelectionList.render_line`` returns a line that begins with four segments: the left
side of a button, its sign, its right side, a gap. They are replaced, for the sign is an X either way. A public
way to give the sign would make this unnecessary.
"""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widgets import SelectionList

_BUTTON = 3
"""Segments of Textual's own button: left side, sign, right side."""


class SignedList(SelectionList[str]):
    """A SelectionList that begins each line with ``sign()``."""

    def sign(self, chosen: bool) -> str:
        """Three cells in front of an option."""
        raise NotImplementedError

    def render_line(self, y: int) -> Strip:
        """Textual's line with the sign in the place of its button."""
        strip = super().render_line(y)
        index = self.scroll_offset.y + y
        if index >= self.option_count:
            return strip
        chosen = self.get_option_at_index(index).value in self.selected
        _, button, _, gap, *_ = strip
        style = (gap.style or Style()) + Style(meta=button.style.meta if button.style else None)
        if chosen:
            own = self.get_component_rich_style("selection-list--button-selected", partial=True)
            style += Style(color=own.color, bold=True)
        return Strip([Segment(self.sign(chosen), style), *list(strip)[_BUTTON:]])
