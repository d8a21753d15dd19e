"""The crew on this machine: one place with its cores and its memory, a process for every task at work."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self

from edgepeft.config.matrix import Cell
from edgepeft.events import Sink
from edgepeft.fleet.scheduling import Done, Place
from edgepeft.fleet.tasks import Task
from edgepeft.pipeline.execute import Order, carry_out
from edgepeft.runs.folder import RunFolder, free_memory
from edgepeft.stages.pool import Workers
from edgepeft.utils.processors import processors

_MEMORY_SHARE = 0.8


def cores() -> int:
    """Cores that this process may use."""
    return processors().threads


def default_jobs(cells: Sequence[Cell]) -> int:
    """How many tasks to carry out at a time where nothing is said.

    One for each combination of choices, for those have trainings of their own; at most one a core, and one where
    a GPU is shared. More would leave a training fewer cores than it could have.
    """
    if has_gpus():
        return 1
    return max(1, min(cores(), len({cell.recipe.variant for cell in cells})))


def has_gpus() -> bool:
    """Whether this machine has an NVIDIA GPU, which all tasks share."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def default_memory() -> float:
    """Bytes of memory for all tasks together where nothing is said: most of what is free now."""
    return _MEMORY_SHARE * free_memory()


class LocalCrew:
    """Carries tasks out on this machine; a context manager. The cores are shared out among ``jobs``."""

    def __init__(self, jobs: int, memory: float) -> None:
        self._place = Place("this machine", jobs, memory)
        self._threads = max(1, cores() // jobs) if jobs > 1 else None
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="task")
        self._all: list[Workers] = []
        self._idle: list[Workers] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.interrupt(at_once=True)
        self._pool.shutdown()
        for workers in self._all:
            workers.close()

    def at(self, run: RunFolder) -> AbstractContextManager[None]:
        """Nothing to prepare: whoever builds is here."""
        return nullcontext()

    def places(self) -> Sequence[Place]:
        """This machine."""
        return [self._place]

    def start(self, task: Task, order: Order, place: Place, sink: Sink, done: Done) -> None:
        """Begin a task in a process of its own."""
        if not self._idle:
            self._idle.append(Workers(self._threads))
            self._all.append(self._idle[-1])
        workers = self._idle.pop()

        def work() -> None:
            error: BaseException | None = None
            try:
                carry_out(order, workers, sink)
            except BaseException as caught:  # it is told by whoever waits
                error = caught
            self._idle.append(workers)
            done(task, place, error)

        self._pool.submit(work)

    def interrupt(self, *, at_once: bool) -> None:
        """Have every process at work save its state and end, or end at once."""
        for workers in self._all:
            workers.interrupt(at_once=at_once)
