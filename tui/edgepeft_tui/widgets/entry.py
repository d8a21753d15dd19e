"""A line to type into."""

from __future__ import annotations

from typing import Any

from edgepeft_tui.compat.textual_input import ShowingInput
from edgepeft_tui.plain_text import one_to_one


class Entry(ShowingInput):
    """Textual's Input, of one line's height, with signs for the characters in its text that nobody would see."""

    def __init__(self, value: str = "", **options: Any) -> None:
        super().__init__(value, **{"compact": True, "select_on_focus": False, **options})

    def shown(self) -> str:
        """The text as it is shown."""
        return one_to_one(self.value)
