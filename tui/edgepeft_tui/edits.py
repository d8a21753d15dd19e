"""What was typed into a line of text, step by step, to be taken back and done again."""

from __future__ import annotations

from dataclasses import dataclass

MOST = 500
"""Steps that are kept."""


@dataclass
class _Step:
    """At ``start`` stood ``removed``, and ``inserted`` stands there now; ``open`` while more may belong to it."""

    start: int
    removed: str
    inserted: str
    open: bool

    def takes(self, start: int, removed: str, inserted: str) -> bool:
        """Take a further change in, if it goes on where this one ended: a word typed, characters deleted."""
        if not self.open or len(removed) + len(inserted) != 1:
            return False
        if inserted and not self.removed and start == self.start + len(self.inserted):
            # A word begins with what parts it from the one before.
            if self.inserted[-1:].isalnum() and not inserted.isalnum():
                return False
            self.inserted += inserted
            return True
        if removed and not self.inserted and start + 1 == self.start:
            self.start, self.removed = start, removed + self.removed
            return True
        if removed and not self.inserted and start == self.start:
            self.removed += removed
            return True
        return False


class Edits:
    """The steps of one line. Each way through them gives the text, and where the cursor stands in it."""

    def __init__(self) -> None:
        self._done: list[_Step] = []
        self._undone: list[_Step] = []

    def note(self, start: int, removed: str, inserted: str) -> None:
        """A change was made; characters typed one after another are one step a word."""
        self._undone.clear()
        if self._done and self._done[-1].takes(start, removed, inserted):
            return
        single = len(removed) + len(inserted) == 1
        self._done.append(_Step(start, removed, inserted, single))
        del self._done[:-MOST]

    def undo(self, text: str) -> tuple[str, int] | None:
        """``text`` before the last step; None where nothing is left to take back."""
        if not self._done:
            return None
        step = self._done.pop()
        step.open = False
        self._undone.append(step)
        return _exchanged(text, step.start, step.inserted, step.removed)

    def redo(self, text: str) -> tuple[str, int] | None:
        """``text`` after the step that was taken back last; None where nothing was, or it was changed since."""
        if not self._undone:
            return None
        step = self._undone.pop()
        self._done.append(step)
        return _exchanged(text, step.start, step.removed, step.inserted)

    def clear(self) -> None:
        """It is another text now."""
        self._done.clear()
        self._undone.clear()


def _exchanged(text: str, start: int, old: str, new: str) -> tuple[str, int]:
    return f"{text[:start]}{new}{text[start + len(old) :]}", start + len(new)
