"""Choosing tokens within a grammar: by a mask over the logits, and without looking where one must come.

A token that must come is not asked of the model. It is read along with those after it when there is a choice
again, so that templated text costs no step of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepeft.guidance.matcher import Matcher
from edgepeft.runtime.sampling import Sampler


class Choice:
    """How one answer's tokens are chosen: by ``sampler``, within the grammar that ``matcher`` follows, if any."""

    def __init__(self, sampler: Sampler, matcher: Matcher | None = None) -> None:
        self._sampler = sampler
        self._matcher = matcher
        self._forced = deque[int]() if matcher is None else deque(matcher.forced())

    @property
    def settled(self) -> bool:
        """Whether the next token is known without the model."""
        return bool(self._forced)

    def next(self, logits: npt.NDArray[np.float32] | None, ids: Sequence[int]) -> int:
        """The token after ``ids``; ``logits`` float32 [V] may be None where it is settled.

        Raises InputError where the grammar takes too much to follow.
        """
        settled = bool(self._forced)
        if settled:
            token = self._forced.popleft()
        else:
            assert logits is not None
            bound = logits if self._matcher is None else self._matcher.bounded(logits)
            token = self._sampler.choose(bound, ids)
        if self._matcher is not None:
            self._matcher.take(token)
            if not self._forced:
                self._forced.extend(self._matcher.forced())
        return token


class GuidedGenerator:
    """A generator with the interface of onnxruntime-genai's, over one that has read a prompt."""

    def __init__(self, reader: Any, choice: Choice) -> None:
        """``reader`` is either runtime's; it is read from where it stands."""
        self._reader = reader
        self._choice = choice
        self._ids: list[int] = [int(token) for token in reader.get_sequence(0)]
        self._unread: list[int] = []

    def generate_next_token(self) -> None:
        """Go on by one token; the model is asked only where there is a choice."""
        logits = None
        if not self._choice.settled:
            if self._unread:
                self._reader.append_tokens(np.array(self._unread, np.int32))
                self._unread = []
            logits = np.asarray(self._reader.get_logits()[0, -1], np.float32)
        token = self._choice.next(logits, self._ids)
        self._ids.append(token)
        self._unread.append(token)

    def get_next_tokens(self) -> list[int]:
        """The newest token."""
        return self._ids[-1:]
