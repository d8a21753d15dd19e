"""How far a bundle has come with a task's requests: as events, or with a bar as lm_eval's own models have."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Any, Self

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

    def steps(self, what: str, total: int, *, hidden: bool = False) -> Steps:
        """The way through so many requests; ``hidden`` draws no bar."""
        return Steps(self._events, what, total, hidden)


class Steps:
    """Requests that are done, out of a total; a context."""

    def __init__(self, events: Events | None, what: str, total: int, hidden: bool) -> None:
        self._events, self._what, self._total, self._hidden = events, what, total, hidden
        self._done = self._tokens = 0
        self._started = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Self:
        if self._events is not None:
            self._events.progress(0, self._total)
        else:
            from tqdm import tqdm

            self._bar = tqdm(total=self._total, desc=self._what, disable=self._hidden)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def done(self, requests: int, tokens: int) -> None:
        """So many more, which took the graph so many tokens."""
        self._done += requests
        self._tokens += tokens
        if self._bar is not None:
            self._bar.update(requests)
        if self._events is not None:
            rate = self._tokens / max(time.monotonic() - self._started, 1e-9)
            self._events.progress(self._done, self._total, tokens_per_second=round(rate, 1))
