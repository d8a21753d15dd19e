"""How far a bundle has come with a task's requests: as events, or with a bar as lm_eval's own models have."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

from edgepeft.events import Events


class Telling:
    """Whom a model tells: ``events`` where it has them, else lm_eval's way, a bar and a logger."""

    def __init__(self, events: Events | None) -> None:
        self._events = events

    def warn(self, text: str) -> None:
        """Something that the user should know of the figures."""
        if self._events is None:
            logging.getLogger("edgepeft").warning(text)
        else:
            self._events.warning(text)

    @contextlib.contextmanager
    def steps(self, what: str, total: int, *, hidden: bool = False) -> Iterator[Steps]:
        """The way through so many requests; ``hidden`` draws no bar."""
        if self._events is not None:
            self._events.progress(0, total)
            yield Steps(self._events, total)
            return
        from tqdm import tqdm

        with tqdm(total=total, desc=what, disable=hidden) as bar:
            yield Steps(None, total, bar)


class Steps:
    """Requests that are done, out of a total, for events or a bar."""

    def __init__(self, events: Events | None, total: int, bar: Any = None) -> None:
        self._events, self._total, self._bar = events, total, bar
        self._done = self._tokens = 0
        self._started = time.monotonic()

    def done(self, requests: int, tokens: int) -> None:
        """So many more, which took the graph so many tokens."""
        self._done += requests
        self._tokens += tokens
        if self._bar is not None:
            self._bar.update(requests)
        if self._events is not None:
            rate = self._tokens / max(time.monotonic() - self._started, 1e-9)
            self._events.progress(self._done, self._total, tokens_per_second=round(rate, 1))
