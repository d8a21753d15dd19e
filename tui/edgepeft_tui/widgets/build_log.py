"""The log of a build: filtered, in the colours of the theme, folded for the width it has now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text
from textual.events import Resize
from textual.timer import Timer
from textual.widgets import RichLog

from edgepeft_tui.plain_text import visible

Entry = tuple[float, str, str]
"""Time, kind and text."""
MOST_LINES = 5000
FOLD_SECONDS = 0.15
"""How long a width must last before everything is folded anew: an edge that is dragged passes many."""
_COLOURS = {"warning": "text-warning", "error": "text-error"}
_SIGNS = {"warning": "! ", "error": "✗ "}


class BuildLog(RichLog):
    """What a build has said, the latest last."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, wrap=True, markup=False, max_lines=MOST_LINES)
        self._entries: Sequence[Entry] = ()
        self._wanted = ""
        self._written = 0
        self._folded_for = 0
        self._pending: Timer | None = None
        self._following = True

    def show(self, entries: Sequence[Entry]) -> None:
        """Write what is new of a log that grows, or all of one that is another."""
        if entries is not self._entries or self._written > len(entries):
            self._entries = entries
            self.rewrite()
        else:
            self._write_new(self._following)

    def filter(self, wanted: str) -> None:
        """From now on only entries that contain a text."""
        self._wanted = wanted.lower()
        self.rewrite()

    def rewrite(self) -> None:
        """Write everything anew, and stay at the end, or about where one has scrolled to."""
        at_end, share = self._following, self.scroll_y / (self.max_scroll_y or 1)
        self.clear()
        # Only here: a line written before a new width is heard of leaves the others as they were.
        self._folded_for = self.scrollable_content_region.width
        self._written = max(0, len(self._entries) - MOST_LINES)
        self._write_new(at_end)
        if not at_end:
            self.scroll_to(y=round(share * self.max_scroll_y), animate=False)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow what is written until somebody scrolls back; that the end moves away is no scrolling."""
        super().watch_scroll_y(old_value, new_value)
        self._following = self.is_vertical_scroll_end

    def on_resize(self, event: Resize) -> None:
        """Fold the lines anew once the width stays; at first, write what has waited for one."""
        super().on_resize(event)
        if self._following:
            self.scroll_end(animate=False)
        width = self.scrollable_content_region.width
        if not self._folded_for:
            self.rewrite()
        elif width != self._folded_for:
            if self._pending is not None:
                self._pending.stop()
            self._pending = self.set_timer(FOLD_SECONDS, self.rewrite)

    def _write_new(self, follow: bool | None = None) -> None:
        width = self.scrollable_content_region.width
        if not width:
            return
        colours = self.app.theme_variables
        lines = []
        for moment, kind, text in self._entries[self._written :]:
            if self._wanted and self._wanted not in f"{kind} {text}".lower():
                continue
            clock = datetime.fromtimestamp(moment).strftime("%H:%M:%S")
            style = colours.get(_COLOURS.get(kind, ""), "")
            said = (f"{_SIGNS.get(kind, '')}{visible(text)}", style)
            lines.append(Text.assemble((f"{clock} ", colours["muted"]), said))
        self._written = len(self._entries)
        if lines:
            # Left to itself, a log folds for 78 cells and more, however few there are.
            self.write(Text("\n").join(lines), width=width, scroll_end=follow)
