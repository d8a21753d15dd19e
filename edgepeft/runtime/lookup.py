"""Guessing what follows from what followed before: in the prompt, in this answer, and in earlier answers.

Prompt lookup (Saxena 2023; assisted generation in transformers) goes on as the newest n-gram was gone on with
before. Templated answers, JSON with the same keys each time, repeat each other rather than their prompts, so
counts are kept across answers; and a value that was never seen breaks every n-gram, so shorter contexts count too
where they know their place: how often they have come in the answer.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

_Context = tuple[int, ...]

_LONG = 4
_OWN = 3
_SURE = 0.6
_MOST_TOKENS = 8192
_LONGEST_PAUSE = 16


class Lookup:
    """Counts of what followed each context in earlier answers; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._followers: dict[_Context, dict[int, int]] = {}
        self._tokens = 0

    def learn(self, pairs: Sequence[tuple[list[_Context], int]]) -> None:
        """Take in an answer: for each of its tokens the contexts that it followed."""
        with self._lock:
            # What a device is asked changes slowly; beginning anew keeps the memory small.
            if self._tokens > _MOST_TOKENS:
                self._followers.clear()
                self._tokens = 0
            self._tokens += len(pairs)
            for contexts, token in pairs:
                for context in contexts:
                    followers = self._followers.setdefault(context, {})
                    followers[token] = followers.get(token, 0) + 1

    def follower(self, contexts: Sequence[_Context]) -> int | None:
        """What nearly always followed the first of ``contexts`` that is known; None for this and that."""
        with self._lock:
            for context in contexts:
                followers = self._followers.get(context)
                if followers:
                    token = max(followers, key=followers.__getitem__)
                    return token if followers[token] >= _SURE * sum(followers.values()) else None
        return None


class Guesser:
    """Guesses the next tokens of one answer; ``ids`` are its prompt and what came of it so far."""

    def __init__(self, lookup: Lookup, prompt: Sequence[int]) -> None:
        self._lookup = lookup
        self.ids = list(prompt)
        self._start = len(prompt)
        self._came: dict[_Context, int] = {}
        # For each n-gram of this sequence the place after it; a later one replaces an earlier.
        self._after: dict[_Context, int] = {}
        for end in range(_OWN, self._start):
            self._after[tuple(prompt[end - _OWN : end])] = end
        self._learned: list[tuple[list[_Context], int]] = []
        self._misses = 0
        self._pause = 0

    def push(self, token: int) -> None:
        """The answer went on with ``token``."""
        self._learned.append((self._contexts(), token))
        if len(self.ids) >= _OWN:
            self._after[tuple(self.ids[-_OWN:])] = len(self.ids)
        self._append(token)

    def done(self) -> None:
        """The answer has ended: later ones may be guessed from it."""
        self._lookup.learn(self._learned)
        self._learned = []

    def guess(self, limit: int) -> list[int]:
        """At most ``limit`` tokens that are likely to come next; none for a while after wrong guesses."""
        if self._pause:
            self._pause -= 1
            return []
        guessed: list[int] = []
        while len(guessed) < limit:
            token = self._lookup.follower(self._contexts())
            if token is None and (at := self._after.get(tuple(self.ids[-_OWN:]))) is not None:
                token = self.ids[at]
            if token is None:
                break
            guessed.append(token)
            self._append(token)
        for _ in guessed:
            self._undo()
        return guessed

    def judge(self, guessed: int, right: int) -> None:
        """So many of the last guesses were right: where none is, guess less often."""
        if not guessed:
            return
        self._misses = 0 if right else self._misses + 1
        # One wrong guess is in the nature of a template with values in it.
        self._pause = min(2 ** max(0, self._misses - 1) - 1, _LONGEST_PAUSE)

    def _contexts(self) -> list[_Context]:
        """The contexts of the next token: the last four, then shorter ones with their place in the answer."""
        ids = self.ids
        found = [tuple(ids[-_LONG:])]
        if len(ids) - self._start >= 2:
            found.append((-self._came[tuple(ids[-2:])], *ids[-2:]))
        if len(ids) > self._start:
            found.append((-self._came[(ids[-1],)], ids[-1]))
        return found

    def _append(self, token: int) -> None:
        self.ids.append(token)
        for size in (1, 2):
            key = tuple(self.ids[-size:])
            self._came[key] = self._came.get(key, 0) + 1

    def _undo(self) -> None:
        for size in (1, 2):
            self._came[tuple(self.ids[-size:])] -= 1
        self.ids.pop()
