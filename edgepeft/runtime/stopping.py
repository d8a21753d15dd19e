"""Ending an answer at a string that may be spread over several tokens."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Passes text on piece by piece until one of ``stop`` appears, which it swallows.

    Text that might turn out to be the beginning of a stop string is held back until it is known not
    to be, so nothing that was passed on ever has to be taken back. ``active`` says whether there is
    anything to look for, ``hit`` whether it was found.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        """``stop`` holds no empty string."""
        self._stop = tuple(stop)
        self._held = ""
        self.active = bool(self._stop)
        self.hit = False

    def push(self, piece: str) -> str:
        """The text that is safe to show after ``piece``; sets ``hit`` where the answer ends."""
        text = self._held + piece
        found = [at for at in map(text.find, self._stop) if at >= 0]
        if found:
            self.hit = True
            self._held = ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What is still held back when the answer ends by itself."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that ``stop`` begins with, short of all of it."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
