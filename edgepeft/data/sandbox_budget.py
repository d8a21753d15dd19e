"""What one rendering of a template may spend: steps, bytes, processor time."""

from __future__ import annotations

import threading
import time

from jinja2.exceptions import SecurityError

from edgepeft.data.sandbox_values import MAX_BYTES

MAX_MADE = 256_000_000
"""Bytes of all strings and lists that one rendering makes on the way, whether they are kept or not."""
_STEPS_BETWEEN_LOOKS = 8
_BYTES_BETWEEN_LOOKS = 1_000_000


class OutOfTime(SecurityError):
    """The processor time of a rendering is spent."""


class Budget:
    """What one rendering may still spend: steps, bytes and processor seconds of its thread."""

    __slots__ = ("_begun", "_looked", "_made", "_seconds", "_steps")

    def __init__(self, steps: int, seconds: float) -> None:
        """A rendering begins."""
        self._steps, self._seconds = steps, seconds
        self._made, self._looked = 0, 0
        self._begun = time.thread_time()

    def step(self, count: int = 1) -> None:
        """Spend steps. Raises SecurityError when none are left, OutOfTime when no time is."""
        self._steps -= count
        if self._steps < 0:
            raise SecurityError("it takes too many steps")
        if self._steps % _STEPS_BETWEEN_LOOKS < count:
            self._look()

    def room(self, size: float) -> None:
        """Raise SecurityError where ``size`` bytes more are too much, before they are made."""
        if size > MAX_BYTES:
            raise SecurityError(f"it makes a string or list of more than {MAX_BYTES} bytes")
        if self._made + size > MAX_MADE:
            raise SecurityError(f"its strings and lists take more than {MAX_MADE} bytes")

    def charge(self, size: int) -> None:
        """Spend the bytes of something that was made. Raises SecurityError."""
        if not size:
            return
        self.room(size)
        self._made += size
        self._looked += size
        if self._looked > _BYTES_BETWEEN_LOOKS:
            self._looked = 0
            self._look()

    def _look(self) -> None:
        if time.thread_time() - self._begun > self._seconds:
            raise OutOfTime(f"it takes more than {self._seconds:.1f} seconds")


class Spending(threading.local):
    """The budget of the rendering that this thread is at."""

    def __init__(self) -> None:
        # Nothing may be spent outside a rendering: jinja would compute constants while it compiles.
        self.budget = Budget(0, 0)
