"""What a stage says while it works.

An event is one JSON object: ``event`` (``planned``, ``started``, ``progress``, ``message``, ``warning``,
``finished``, ``reused``, ``failed``), ``stage``, and for progress ``step``, ``total``, ``seconds`` and
``metrics``; ``planned`` opens a build and names its ``stages`` in order. In a build of several cells each event
of a stage also says which ``cells`` it is for and in what ``place`` it runs, and names of stages are unique among
all. Stages only emit; faces (terminal, JSON lines, wizard) subscribe. Times are seconds of wall clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TypeVar

Event = dict[str, Any]
Sink = Callable[[Event], None]
T = TypeVar("T")


def discard(event: Event) -> None:
    """A sink for callers that do not listen."""


class Events:
    """Emits the events of one stage into a sink.

    ``min_interval`` (seconds) bounds how often progress is sent, so that a loop over tensors can report
    every step without flooding a pipe; the last step is always sent.
    """

    def __init__(self, stage: str, sink: Sink = discard, *, min_interval: float = 0.1) -> None:
        self.stage = stage
        self._sink = sink
        self._min_interval = min_interval
        self._started = time.monotonic()
        self._last_progress = 0.0

    def emit(self, event: str, **fields: Any) -> None:
        """Send one event with this stage's name on it."""
        self._sink({"event": event, "stage": self.stage, **fields})

    def message(self, text: str) -> None:
        """Something worth knowing that needs no action."""
        self.emit("message", text=text)

    def warning(self, text: str) -> None:
        """Something the user should look at; the work goes on."""
        self.emit("warning", text=text)

    def progress(self, step: int, total: int | None = None, **metrics: Any) -> None:
        """Report ``step`` of ``total`` units done, with any measurements taken on the way.

        Step 0 says that the loop begins now: ``seconds`` of later steps count from there, so that loading a
        model does not spoil the rate.
        """
        now = time.monotonic()
        if step == 0:
            self._started = now
        if step != total and now - self._last_progress < self._min_interval:
            return
        self._last_progress = now
        self.emit(
            "progress",
            step=step,
            total=total,
            seconds=round(now - self._started, 3),
            metrics=metrics,
        )

    def track(self, items: Iterable[T], total: int | None = None, *, what: str = "") -> Iterator[T]:
        """Yield ``items`` and report progress after each; ``what`` names the phase within the stage."""
        count = total if total is not None or not isinstance(items, Sized) else len(items)
        self.progress(0, count)
        for step, item in enumerate(items, 1):
            yield item
            self.progress(step, count, **({"phase": what} if what else {}))
