"""Text whose wrapped lines stay in their column: names to the left, words under words."""

from __future__ import annotations

from typing import Any

from textual.content import Content
from textual.css.styles import RulesMap
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions, Visual
from textual.widgets import Static

from edgepeft_tui.words import HANG

_LEAST = 12
"""Cells that words need beside their name; with fewer they go on at the left edge."""


class Hanging(Visual):
    """Markup of which every line may hold one ``HANG``: what does not fit goes on below that place."""

    def __init__(self, markup: str) -> None:
        content = Content.from_markup(markup)
        self._lines = content.split(allow_blank=True)
        self._folded: tuple[int, Content] = (-1, content)

    def at(self, width: int) -> Content:
        """The text folded for ``width`` cells, without the signs."""
        if self._folded[0] != width:
            lines = [part for line in self._lines for part in _fold(line, width)]
            self._folded = (width, Content("\n").join(lines))
        return self._folded[1]

    def render_strips(
        self, width: int, height: int | None, style: Style, options: RenderOptions
    ) -> list[Strip]:
        """The lines as Textual paints them."""
        return self.at(width).render_strips(width, height, style, options)

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        """Cells of the longest line."""
        return max(line.cell_length - (HANG in line.plain) for line in self._lines)

    def get_height(self, rules: RulesMap, width: int) -> int:
        """Lines that the text takes in ``width`` cells."""
        return self.at(width).get_height(rules, width)


def _fold(line: Content, width: int) -> list[Content]:
    at = line.plain.find(HANG)
    if at < 0:
        return [line]
    head, words = line[:at], line[at + len(HANG) :]
    room = width - head.cell_length
    if room < min(_LEAST, words.cell_length):
        return [head + words]
    first, *rest = words.wrap(room)
    return [head + first, *(part.pad_left(head.cell_length) for part in rest)]


class Said(Static):
    """Markup with hanging lines, laid out anew only where its height changes."""

    said = ""

    def say(self, markup: str) -> None:
        """Show other text, unless it is the same."""
        if markup == self.said:
            return
        self.said = markup
        width, height = self.content_size
        self.update(Hanging(markup), layout=False)
        # Laying a screen out anew costs more than painting a box, and most figures change in place.
        rules: Any = self.styles
        if not width or self.visual.get_height(rules, width) != height:
            self.refresh(layout=True)

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text, as it is folded on the screen."""
        if not isinstance(self.visual, Hanging):
            return super().get_selection(selection)
        return selection.extract(self.visual.at(self.content_size.width).plain), "\n"
