"""Choosing tokens ourselves: within a grammar by a mask over the logits, without looking where one must come, or
with what onnxruntime-genai can't add to logits; and telling how likely the model held what was chosen.

A token that must come is not asked of the model. It is read along with those after it when there is a choice
again, so that templated text costs no step of its own, but where its log-probability is wanted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepeft.guidance.matcher import Matcher
from edgepeft.runtime.answer import Said
from edgepeft.runtime.logprobs import token_logprob
from edgepeft.runtime.sampling import Sampler


class Choice:
    """How one answer's tokens are chosen: by ``sampler``, within the grammar that ``matcher`` follows, if any.

    With ``top`` each comes with its log-probability, and those of so many of the likeliest.
    """

    def __init__(
        self, sampler: Sampler, matcher: Matcher | None = None, top: int | None = None
    ) -> None:
        self._sampler = sampler
        self._matcher = matcher
        self._top = top
        self._forced = deque[int]() if matcher is None else deque(matcher.forced())

    @property
    def settled(self) -> bool:
        """Whether the model need not be asked for the next token."""
        return bool(self._forced) and self._top is None

    def next(self, logits: npt.NDArray[np.float32] | None, ids: Sequence[int]) -> Said:
        """The token after ``ids``; ``logits`` float32 [V] may be None where it is settled.

        Raises InputError where the grammar takes too much to follow.
        """
        if self._forced:
            token = self._forced.popleft()
        else:
            assert logits is not None
            bound = logits if self._matcher is None else self._matcher.bounded(logits)
            token = self._sampler.choose(bound, ids)
        if self._matcher is not None:
            self._matcher.take(token)
            if not self._forced:
                self._forced.extend(self._matcher.forced())
        if self._top is None:
            return Said(token)
        assert logits is not None
        return Said(token, token_logprob(np.asarray(logits, np.float32), token, self._top))


class GuidedReader:
    """Tokens that ``choice`` chooses, over a generator of either runtime that has read a prompt."""

    def __init__(self, reader: Any, choice: Choice) -> None:
        """``reader`` is read from where it stands."""
        self._reader = reader
        self._choice = choice
        self._ids: list[int] = [int(token) for token in reader.get_sequence(0)]
        self._unread: list[int] = []

    def next(self) -> Said:
        """Go on by one token; the model is asked only where there is a choice."""
        logits = None
        if not self._choice.settled:
            if self._unread:
                self._reader.append_tokens(np.array(self._unread, np.int32))
                self._unread = []
            logits = np.asarray(self._reader.get_logits()[0, -1], np.float32)
        said = self._choice.next(logits, self._ids)
        self._ids.append(said.id)
        self._unread.append(said.id)
        return said


class WatchedReader:
    """Tokens that a generator of either runtime chooses itself, with their log-probabilities where ``top`` says
    how many.
    """

    def __init__(self, generator: Any, top: int | None) -> None:
        self._generator = generator
        self._top = top

    def next(self) -> Said:
        """Go on by one token."""
        if self._top is None:
            self._generator.generate_next_token()
            return Said(int(self._generator.get_next_tokens()[0]))
        # A copy: choosing may change logits where they lie.
        logits = np.array(self._generator.get_logits()[0, -1], np.float32)
        self._generator.generate_next_token()
        token = int(self._generator.get_next_tokens()[0])
        return Said(token, token_logprob(logits, token, self._top))
