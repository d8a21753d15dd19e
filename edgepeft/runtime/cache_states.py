"""States of a cache, as they are and as they were before the last pass: so much of a text can be taken back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepeft.errors import EdgepeftError


class CacheStates:
    """The states of one reader's cache, which its graph writes in place; none for a graph that has none."""

    def __init__(
        self, model_file: Path, now: Sequence[npt.NDArray[Any]], *, keeps: bool | None = None
    ) -> None:
        """``now`` are the arrays themselves, zero before the first pass; with ``keeps`` there are others, which
        whoever asks looks after.
        """
        self._model_file = model_file
        self._keeps = bool(now) if keeps is None else keeps
        self._now = list(now)
        self._before = [np.zeros_like(state) for state in now]
        # Tokens before the last pass, and behind it.
        self._start = self._held = 0

    def kept(self, length: int) -> int:
        """How many of the first ``length`` tokens that were read need not be read again."""
        if not self._keeps or length == self._held:
            return length
        return self._start if self._start <= length else 0

    def begin(self, past: int, count: int) -> None:
        """Set the states to those after ``past`` tokens, of which ``count`` more are about to be read.

        Raises EdgepeftError where that is not what they are, or were before the last pass.
        """
        if self.kept(past) != past:
            raise EdgepeftError(
                f"{self._model_file}: its convolutions keep the state after {self._held} tokens, and it was "
                f"asked to go on after {past}"
            )
        for now, before in zip(self._now, self._before, strict=True):
            if past == 0:
                now.fill(0)
            elif past != self._held:
                now[...] = before
            before[...] = now
        self._start, self._held = past, past + count
