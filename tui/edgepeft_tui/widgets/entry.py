"""A line to type into."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar

from textual.binding import Binding, BindingType

from edgepeft_tui.compat.textual_input import ShowingInput
from edgepeft_tui.edits import Edits
from edgepeft_tui.plain_text import one_to_one


class Entry(ShowingInput):
    """Textual's Input, of one line's height, in which steps can be taken back.

    It has signs for the characters in its text that nobody would see.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+z", "undo", "Undo", show=False, id="field.undo"),
        Binding("ctrl+y,ctrl+shift+z", "redo", "Redo", show=False, id="field.redo"),
    ]
    _typing = False

    def __init__(self, value: str = "", **options: Any) -> None:
        self._edits = Edits()
        super().__init__(value, **{"compact": True, "select_on_focus": False, **options})

    def shown(self) -> str:
        """The text as it is shown."""
        return one_to_one(self.value)

    # -- steps --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _own(self) -> Iterator[None]:
        """Whatever becomes of the text meanwhile was done in this field."""
        self._typing = True
        try:
            yield
        finally:
            self._typing = False

    def watch_value(self) -> None:
        """A text from outside has no steps before it."""
        if not self._typing:
            self._edits.clear()

    def replace(self, text: str, start: int, end: int) -> None:
        """Put ``text`` in the place of another; every key that changes the text does."""
        before = self.value
        start, end = sorted((max(0, start), min(len(before), end)))
        with self._own():
            super().replace(text, start, end)
        if self.value != before:
            self._edits.note(start, before[start:end], text)

    def action_cursor_right(self, select: bool = False) -> None:
        """Move the cursor, or at the end take what is suggested."""
        before = self.value
        with self._own():
            super().action_cursor_right(select)
        if self.value != before:
            self._edits.note(0, before, self.value)

    def action_undo(self) -> None:
        """Take the last step back."""
        self._show(self._edits.undo(self.value))

    def action_redo(self) -> None:
        """Do again what was taken back last."""
        self._show(self._edits.redo(self.value))

    def _show(self, step: tuple[str, int] | None) -> None:
        if step is not None:
            with self._own():
                self.value, self.cursor_position = step
