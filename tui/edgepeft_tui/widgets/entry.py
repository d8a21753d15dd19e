"""A line to type into."""

from __future__ import annotations

from typing import Any

from rich.text import Text
from textual.widgets import Input

from edgepeft_tui.plain_text import one_to_one


class Entry(Input):
    """Textual's Input, of one line's height, with signs for the characters in its text that nobody would see."""

    def __init__(self, value: str = "", **options: Any) -> None:
        super().__init__(value, **{"compact": True, "select_on_focus": False, **options})

    @property
    def _value(self) -> Text:
        """The text as it is shown."""
        return Text(one_to_one(self.value), no_wrap=True, overflow="ignore", end="")
