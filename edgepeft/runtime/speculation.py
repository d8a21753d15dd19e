"""Greedy decoding several tokens at a time: guessed tokens are read together, and the right ones are kept.

What makes this exact. A kernel may round one row unlike several: attention on the CPU does, and at accuracy
level 4 a difference in the last bit of an activation can move its 8-bit code, so that logits of one token read
alone and of the same token read among others differ visibly. But kernels treat rows in pairs, and each pair gives
the same bits however many there are. So every step reads an even number of tokens, with one that does not count
where there is nothing to guess, and an answer never depends on what was guessed. ``require_even_steps`` holds
the model itself against that before it is used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgepeft.errors import MissingError
from edgepeft.runtime.answer import Said
from edgepeft.runtime.guided import Choice
from edgepeft.runtime.lookup import Guesser, Lookup
from edgepeft.runtime.pieces import LEAST
from edgepeft.runtime.sampling import Sampler
from edgepeft.runtime.search_options import GREEDY

MOST_GUESSED = 7
"""Guessed tokens a step; with the newest one an even number."""

_LIKELIEST = Choice(Sampler(GREEDY, ()))
"""Without a grammar; it keeps nothing from one token to the next."""

_PROBE = 8
_STEPS = ((2, 2, 2, 2), (4, 4), (6, 2), (8,))


class Reader(Protocol):
    """What speculation asks of a generator: onnxruntime-genai's or our own over plain onnxruntime."""

    def append_tokens(self, tokens: npt.NDArray[np.int32]) -> None:
        """Read tokens, int32 [n], into the cache."""
        ...

    def get_logits(self) -> npt.NDArray[Any]:
        """Logits [1, 1, V] of the token that was read last, of the graph's float type."""
        ...

    def get_output(self, name: str) -> npt.NDArray[Any]:
        """An output of the last pass; "logits" [1, n, V] of the n tokens that were read, of the graph's type."""
        ...

    def rewind_to(self, length: int) -> int | None:
        """Forget all but the first ``length`` tokens; how many are left, where they may be fewer."""
        ...


def taken_back(reader: Reader, length: int) -> int:
    """How many tokens a reader has after it was to keep the first ``length``: at most so many."""
    left = reader.rewind_to(length)
    return length if left is None else left


class SpeculativeGenerator:
    """A generator with the interface of onnxruntime-genai's, over one that reads what it is given.

    ``capacity`` is how many tokens ``reader`` has room for, prompt and answer together.
    """

    def __init__(self, reader: Any, capacity: int, lookup: Lookup) -> None:
        self._reader = reader
        self._capacity = capacity
        self._lookup = lookup
        self._guesser = Guesser(lookup, [])
        # How many tokens of the sequence lie in the reader's cache; those that are known to follow.
        self._held = 0
        self._known: deque[Said] = deque()
        # Logits [V] after the last token that was read, where nothing is known to follow it.
        self._row: npt.NDArray[Any] | None = None
        self._choice = _LIKELIEST
        self.steps = 0

    def bound_by(self, choice: Choice) -> None:
        """Choose the tokens of the answer that begins so."""
        self._choice = choice

    def set_active_adapter(self, adapters: Any, name: str) -> None:
        """As onnxruntime-genai's."""
        self._reader.set_active_adapter(adapters, name)

    def done(self) -> None:
        """The answer has ended: later ones may be guessed from it."""
        self._guesser.done()
        self._choice = _LIKELIEST

    def append_tokens(self, tokens: Sequence[int] | npt.NDArray[np.int32]) -> None:
        """Read a prompt, or what comes after the answer so far, int32 [n]."""
        self._guesser.done()
        self._choice = _LIKELIEST
        kept = len(self._guesser.ids)
        if self._held > kept:
            self._held = taken_back(self._reader, kept)
        self._guesser = Guesser(self._lookup, [*self._guesser.ids, *map(int, tokens)])
        unread = self._guesser.ids[self._held :]
        self._reader.append_tokens(np.array(unread, np.int32))
        self._held += len(unread)
        # Of a prompt only the last row is fetched: all of them are its length times the vocabulary.
        self._row = self._reader.get_logits()[0, -1]
        self._known.clear()

    def generate_next_token(self) -> None:
        """Go on by one token; as onnxruntime-genai's."""
        self.next()

    def next(self) -> Said:
        """Go on by one token; most steps take it from those that are already known."""
        if not self._known:
            row, self._row = self._row, None
            if row is not None or self._choice.settled:
                self._known.append(self._choice.next(row, self._guesser.ids))
            else:
                self._step()
        said = self._known.popleft()
        self._guesser.push(said.id)
        return said

    def get_next_tokens(self) -> list[int]:
        """The newest token."""
        return [self._guesser.ids[-1]]

    def get_sequence(self, index: int) -> npt.NDArray[np.int32]:
        """Prompt and answer so far, int32 [n]."""
        return np.array(self._guesser.ids, np.int32)

    def rewind_to(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        self._guesser.done()
        self._guesser = Guesser(self._lookup, self._guesser.ids[:length])
        self._known.clear()
        self._row = None
        self._choice = _LIKELIEST
        if self._held > length:
            self._held = taken_back(self._reader, length)

    def _step(self) -> None:
        """Read the newest token and what is guessed to follow it; keep what was guessed rightly, and one more."""
        unread = self._guesser.ids[self._held :]
        if len(unread) + MOST_GUESSED >= LEAST:
            # A reader may take so many in several passes, and gives the rows of the last one alone.
            first = (len(unread) - 1) // 2 * 2
            self._reader.append_tokens(np.array(unread[:first], np.int32))
            self._held += first
            unread = unread[first:]
        room = self._capacity - self._held - len(unread)
        guessed = self._guesser.guess(min(MOST_GUESSED, room))
        rows = [*unread, *guessed]
        if len(rows) % 2 and room > len(guessed):
            rows.append(unread[-1])
        self._reader.append_tokens(np.array(rows, np.int32))
        logits = self._reader.get_output("logits")[0, len(unread) - 1 :]
        self.steps += 1
        right = 0
        # A grammar follows what is chosen alone, so nothing of it has to be taken back.
        before = list(self._guesser.ids)
        self._known.append(self._choice.next(logits[0], before))
        while right < len(guessed) and guessed[right] == self._known[-1].id:
            before.append(guessed[right])
            right += 1
            self._known.append(self._choice.next(logits[right], before))
        self._guesser.judge(len(guessed), right)
        self._held += len(unread) + right
        if len(rows) > len(unread) + right:
            self._held = taken_back(self._reader, self._held)


def require_even_steps(new_reader: Callable[[int], Reader], vocab_size: int) -> None:
    """Refuse a machine whose kernels give a token other logits in a pair than among more.

    ``new_reader`` makes an empty reader with room for so many tokens. Raises MissingError.
    """
    ids = np.random.default_rng(0).integers(0, vocab_size, 2 * _PROBE).astype(np.int32)
    found = []
    for steps in _STEPS:
        reader = new_reader(2 * _PROBE)
        reader.append_tokens(ids[:_PROBE])
        rows, at = [], _PROBE
        for size in steps:
            reader.append_tokens(ids[at : at + size])
            rows.append(np.array(reader.get_output("logits")[0][-size:], np.float32))
            at += size
        found.append(np.concatenate(rows))
    if any(not np.array_equal(found[0], other) for other in found[1:]):
        raise MissingError(
            "speculate: the kernels of this machine round a token among several unlike one in a pair, so answers "
            "would depend on what was guessed; leave it off"
        )
