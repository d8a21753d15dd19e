"""Which task runs where and when: everything whose needs are done, wherever there is room for it."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

from edgepeft.errors import EdgepeftError, InterruptedRun
from edgepeft.events import Sink
from edgepeft.fleet.tasks import CellPlan, Fleet, Task
from edgepeft.pipeline.execute import Order, is_done, order_of
from edgepeft.pipeline.resources import memory_of
from edgepeft.runs.folder import RunFolder
from edgepeft.utils.crash_log import told

_LOOK_SECONDS = 0.2
"""How often a request to stop, and places that come and go, are looked for."""
_ATTEMPTS = 2
"""How often a task is begun whose place is lost: what kills its place may do so anywhere."""


class PlaceLost(EdgepeftError):
    """The place where a task ran is gone; the task may be tried elsewhere."""


@dataclass
class Place:
    """Where tasks run: at most ``jobs`` at a time, which together take at most ``memory`` bytes.

    A task that needs more than that on its own has the place to itself.
    """

    name: str
    jobs: int
    memory: float
    running: list[Task] = field(default_factory=list)

    def has_room(self, task: Task) -> bool:
        """Whether a task may begin here now."""
        if not self.running:
            return True
        used = sum(need(running) for running in self.running)
        return len(self.running) < self.jobs and used + need(task) <= self.memory


Done = Callable[[Task, Place, BaseException | None], None]


class Crew(Protocol):
    """Carries tasks out at its places."""

    def at(self, run: RunFolder) -> AbstractContextManager[None]:
        """Work in a run's folder, which is locked. Raises EdgepeftError where that is impossible."""

    def places(self) -> Sequence[Place]:
        """The places there are now. A lost one says so of its tasks through their ``done``."""

    def start(self, task: Task, order: Order, place: Place, sink: Sink, done: Done) -> None:
        """Begin a task without waiting for it; ``done`` is called once, from any thread."""

    def interrupt(self, *, at_once: bool) -> None:
        """Have everything at work save its state and end, or end at once."""


def need(task: Task) -> float:
    """Bytes of memory that a task takes at its peak, roughly."""
    return memory_of(task.plan, task.stage)


@dataclass
class Course:
    """How far a fleet has come: errors of cells, and the tasks that were found done, carried out or given up."""

    errors: dict[str, EdgepeftError] = field(default_factory=dict)
    reused: list[Task] = field(default_factory=list)
    finished: list[Task] = field(default_factory=list)
    interrupted: bool = False

    def is_done(self, task: Task) -> bool:
        """Whether a task's output is there."""
        return task in self.reused or task in self.finished

    def is_alive(self, cell: CellPlan) -> bool:
        """Whether nothing has gone wrong with a cell."""
        return cell.name not in self.errors


class Stop:
    """How often SIGINT or SIGTERM came: once asks for an orderly end, twice insists."""

    def __init__(self) -> None:
        self.times = 0

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Count the two signals instead of being interrupted by them; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.times += 1


def run_tasks(
    fleet: Fleet, crew: Crew, vet: Callable[[CellPlan], EdgepeftError | None], sink: Sink
) -> Course:
    """Carry out all tasks of a fleet; what fails ends the cells that need it, and no others.

    ``vet`` looks a cell over once its base is done. ``sink`` is called from several threads. Ends early, with
    ``interrupted`` set, on Ctrl-C or SIGTERM.
    """
    return _Run(fleet, crew, vet, sink).to_the_end()


class _Run:
    """One carrying out of a fleet's tasks."""

    def __init__(
        self,
        fleet: Fleet,
        crew: Crew,
        vet: Callable[[CellPlan], EdgepeftError | None],
        sink: Sink,
    ) -> None:
        self._crew = crew
        self._vet = vet
        self._sink = sink
        self._waiting = list(fleet.tasks)
        self._running = 0
        self._vetted: set[str] = set()
        self._looked_for: set[str] = set()
        self._attempts: Counter[str] = Counter()
        self._ended: queue.Queue[tuple[Task, Place, BaseException | None]] = queue.Queue()
        self._course = Course({one.name: one.error for one in fleet.cells if one.error is not None})
        self._stop = Stop()
        self._heeded = 0

    def to_the_end(self) -> Course:
        with self._stop.heard():
            while True:
                self._heed_stop()
                if not self._course.interrupted:
                    self._advance()
                if not self._running and (self._course.interrupted or not self._waiting):
                    return self._course
                with contextlib.suppress(queue.Empty):
                    self._note_end(*self._ended.get(timeout=_LOOK_SECONDS))

    def _heed_stop(self) -> None:
        if self._stop.times > self._heeded:
            self._heeded = self._stop.times
            self._sink({"event": "message", "stage": "build", "text": "stopping"})
            self._course.interrupted = True
            self._crew.interrupt(at_once=self._heeded > 1)

    def _advance(self) -> None:
        """Take what is there already, and begin what is ready and finds room."""
        places = self._crew.places()
        for task in list(self._waiting):
            if not all(map(self._course.is_done, task.needs)):
                if not self._is_wanted(task):
                    self._waiting.remove(task)
                continue
            if task.stage.kind != "base":
                self._look_over(task.cells)
            if not self._is_wanted(task):
                self._waiting.remove(task)
            elif self._is_there(task):
                self._waiting.remove(task)
                self._course.reused.append(task)
                self._of(task)({"event": "reused", "path": str(task.stage.final)})
            elif place := next((place for place in places if place.has_room(task)), None):
                self._waiting.remove(task)
                self._begin(task, place)

    def _is_wanted(self, task: Task) -> bool:
        return any(map(self._course.is_alive, task.cells))

    def _look_over(self, cells: Sequence[CellPlan]) -> None:
        """Check the rows of cells whose base is there, once each."""
        for cell in cells:
            if cell.name not in self._vetted and self._course.is_alive(cell):
                self._vetted.add(cell.name)
                if (error := self._vet(cell)) is not None:
                    self._course.errors[cell.name] = error

    def _is_there(self, task: Task) -> bool:
        """Whether a task's output was there before; a task that waits for room is looked for but once."""
        if task.label in self._looked_for:
            return False
        self._looked_for.add(task.label)
        return is_done(task.stage)

    def _begin(self, task: Task, place: Place) -> None:
        place.running.append(task)
        self._running += 1
        self._attempts[task.label] += 1
        order = order_of(task.plan, task.stage, task.log)
        self._crew.start(task, order, place, self._of(task, place=place.name), self._tell)

    def _tell(self, task: Task, place: Place, error: BaseException | None) -> None:
        self._ended.put((task, place, error))

    def _note_end(self, task: Task, place: Place, error: BaseException | None) -> None:
        place.running.remove(task)
        self._running -= 1
        if error is None:
            self._course.finished.append(task)
        elif self._course.interrupted or isinstance(error, InterruptedRun):
            self._course.interrupted = True
        elif isinstance(error, PlaceLost) and self._attempts[task.label] < _ATTEMPTS:
            self._waiting.insert(0, task)
            self._of(task)({"event": "warning", "text": f"{error}; trying once more"})
        elif isinstance(error, (EdgepeftError, OSError, MemoryError)):
            if not isinstance(error, EdgepeftError):
                error = EdgepeftError(f"{task.label}: {told(error, task.stage.final)}")
            for cell in task.cells:
                self._course.errors.setdefault(cell.name, error)
        else:
            # No failure of a stage, but a mistake of ours.
            self._crew.interrupt(at_once=True)
            raise error

    def _of(self, task: Task, **facts: str) -> Sink:
        """A sink for a task's events: they say which task, for which cells, and where it runs."""
        about = {"stage": task.label, "cells": task.names, **facts}
        return lambda event: self._sink({**event, **about})
