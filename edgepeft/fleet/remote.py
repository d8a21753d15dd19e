"""What a cluster's workers do: carry out one task each in a process of its own, while the build that asked lives.

The build writes a beat into the run's folder every so often. A worker that reads no new one, or one that says
stop, has its task save what it has and end; so no task outlives its build, however that ended.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgepeft import __version__
from edgepeft.errors import EdgepeftError
from edgepeft.events import Event
from edgepeft.pipeline.execute import Order, carry_out
from edgepeft.runs.folder import write_json
from edgepeft.stages.pool import Workers
from edgepeft.utils.crash_log import log_crashes_in, told

BEAT_SECONDS = 1.0
"""How often the build writes its beat, and the workers read it."""
LOST_SECONDS = 60.0
"""A build without a new beat for so long is taken to be gone; files of a network may be seen late."""


@dataclass(frozen=True)
class Beat:
    """A sign of life. ``token`` is the build's own; ``stop`` is 0, 1 to end in order, or 2 to end at once."""

    token: str
    number: int = 0
    stop: int = 0

    def write(self, path: Path) -> None:
        """Put it where the workers look. Raises EdgepeftError."""
        write_json(path, asdict(self), durable=False)

    @classmethod
    def read(cls, path: Path) -> Beat | None:
        """The latest one, None where there is none that can be read."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        return None


_idle: list[Workers] = []
"""Processes with the libraries loaded, kept by a worker between tasks."""


def version(path: Path, token: str) -> tuple[str, bool]:
    """This worker's edgepeft, and whether it sees the beat of the build that asks."""
    beat = Beat.read(path)
    return __version__, beat is not None and beat.token == token


def release() -> None:
    """End the processes that are kept for further tasks."""
    while _idle:
        _idle.pop().close()


def carry(order: Order, label: str, threads: int, beat: Path, token: str, topic: str) -> None:
    """Carry out a task on this worker; its events go to ``topic``. Raises as ``carry_out`` does."""
    from distributed import get_worker

    worker: Any = get_worker()

    def send(event: Event) -> None:
        worker.log_event(topic, {"label": label, "event": event})

    workers = _idle.pop() if _idle else Workers(threads)
    try:
        with watched(workers, beat, token):
            carry_out(order, workers, send)
    except EdgepeftError:
        raise
    except Exception as error:
        # The build may not have the class of a library's error.
        log_crashes_in(order.log.parent)
        raise EdgepeftError(f"{label}: {told(error, order.stage.final)}") from None
    finally:
        if workers.interrupted:
            workers.close()
        else:
            _idle.append(workers)


@contextlib.contextmanager
def watched(workers: Workers, path: Path, token: str) -> Iterator[None]:
    """Interrupt ``workers`` when the build says so, or says nothing any more."""
    ended = threading.Event()

    def watch() -> None:
        last, seen = None, time.monotonic()
        while not ended.wait(BEAT_SECONDS / 2):
            beat = Beat.read(path)
            if beat is not None and beat.token != token:
                # Another build has the folder; this one's is gone.
                workers.interrupt(at_once=True)
                return
            if beat is not None and beat != last:
                last, seen = beat, time.monotonic()
            if beat is not None and beat.stop:
                workers.interrupt(at_once=beat.stop > 1)
            elif time.monotonic() - seen > LOST_SECONDS:
                workers.interrupt()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
