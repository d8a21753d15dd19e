"""Boxes to choose with that say by a sign, not by a colour alone, whether they are chosen."""

from __future__ import annotations

from edgepeft_tui.compat.textual_button import SignedButton
from edgepeft_tui.compat.textual_selection_list import SignedList


class Checklist(SignedList):
    """A list in which several may be chosen: ``[x]`` is chosen, ``[ ]`` is not."""

    def sign(self, chosen: bool) -> str:
        """A box, with a cross in it or without."""
        return "[x]" if chosen else "[ ]"


class Choice(SignedButton):
    """One of a RadioSet: ``(●)`` is chosen, ``( )`` is not."""

    def sign(self) -> str:
        """The dot in its brackets, or none."""
        return f"({self.BUTTON_INNER if self.value else ' '})"
