"""The thread that keeps a batch going: it reads prompts into free rows and steps those under way."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Generator
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from edgepeft.errors import EdgepeftError, one_line
from edgepeft.runtime.adapter_pool import Lease
from edgepeft.runtime.answer import Said
from edgepeft.runtime.answering import Request
from edgepeft.runtime.batch import Batch, Reading


class Answer:
    """An answer that the loop makes; its client takes the tokens in a thread of its own.

    ``lease`` keeps its adapter in memory and in use until it ends.
    """

    def __init__(self, request: Request, stop_ids: Collection[int]) -> None:
        self.request = request
        self.lease: Lease | None = None
        self.left = False
        self._stop_ids = stop_ids
        self._choice = request.choice(stop_ids)
        self._ids = list(request.prompt_ids)
        self._queue: SimpleQueue[Said | EdgepeftError | None] = SimpleQueue()

    def tokens(self) -> Generator[Said, None, None]:
        """The tokens as they come. Raises what the loop met; leaving early gives the row back."""
        try:
            while (said := self._queue.get()) is not None:
                if isinstance(said, EdgepeftError):
                    raise said
                yield said
        finally:
            self.left = True

    @property
    def newest(self) -> int:
        """The token said last."""
        return self._ids[-1]

    def go_on(self, logits: npt.NDArray[np.float32]) -> bool:
        """Say the token that ``logits``, float32 [V], call for; whether the answer goes on after it.

        Raises EdgepeftError where the answer's grammar can't be followed.
        """
        said = self._choice.next(logits, self._ids)
        self._ids.append(said.id)
        self._queue.put(said)
        length = len(self._ids) - len(self.request.prompt_ids)
        return said.id not in self._stop_ids and length < self.request.room

    def end(self, error: EdgepeftError | None = None) -> None:
        """Nothing more will come, and the adapter is given back."""
        if self.lease is not None:
            self.lease.close()
        self._queue.put(error)


class Loop:
    """Between two steps, one piece of one waiting prompt is read, and rows whose client has left are freed."""

    def __init__(self, batch: Batch, begin: Callable[[Answer], Reading]) -> None:
        """``begin`` opens an answer's prompt, with its adapter lent to it; raises EdgepeftError."""
        self._batch = batch
        self._begin = begin
        self._changed = threading.Condition()
        self._waiting: deque[Answer] = deque()
        self._closed = False
        self._reading: tuple[Answer, Reading] | None = None
        self._rows: dict[int, Answer] = {}
        self._thread = threading.Thread(target=self._run, name="batch", daemon=True)
        self._thread.start()

    def submit(self, answer: Answer) -> None:
        """Have an answer made. Raises EdgepeftError once the loop is closed."""
        with self._changed:
            if self._closed:
                raise EdgepeftError("no more answers are made: the batch is closed")
            self._waiting.append(answer)
            self._changed.notify()

    def close(self) -> None:
        """End every answer and the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        error = EdgepeftError("the answer was cut short: the batch is closed")
        try:
            while self._has_work():
                self._admit()
                self._read()
                self._step()
        except Exception as failure:  # whoever waits must be told, whatever it was
            error = EdgepeftError(f"the batch failed ({one_line(failure)})")
        with self._changed:
            self._closed = True
        reading = [] if self._reading is None else [self._reading[0]]
        for answer in (*self._rows.values(), *reading, *self._waiting):
            answer.end(error)

    def _has_work(self) -> bool:
        """Wait for something to do; False when the loop is to end."""
        with self._changed:
            while not (self._closed or self._waiting or self._reading or self._rows):
                self._changed.wait()
            return not self._closed

    def _admit(self) -> None:
        while self._reading is None and self._waiting and self._batch.free is not None:
            answer = self._waiting.popleft()
            if answer.left:
                continue
            try:
                self._reading = answer, self._begin(answer)
            except EdgepeftError as error:
                answer.end(error)

    def _read(self) -> None:
        if self._reading is None:
            return
        answer, reading = self._reading
        try:
            logits = None if answer.left else reading.advance()
            if logits is None and not answer.left:
                return
            row = self._batch.free
            goes_on = logits is not None and row is not None and answer.go_on(logits)
        except EdgepeftError as error:
            self._reading = None
            answer.end(error)
            return
        self._reading = None
        if not goes_on or row is None:
            answer.end()
            return
        self._batch.place(row, reading)
        self._rows[row] = answer

    def _step(self) -> None:
        for row in [row for row, answer in self._rows.items() if answer.left]:
            self._end(row)
        if not self._rows:
            return
        try:
            found = self._batch.step({row: answer.newest for row, answer in self._rows.items()})
        except EdgepeftError as error:
            for row in list(self._rows):
                self._end(row, error)
            return
        for row, logits in found.items():
            # What one answer's grammar meets is no other's matter.
            try:
                if not self._rows[row].go_on(logits):
                    self._end(row)
            except EdgepeftError as met:
                self._end(row, met)

    def _end(self, row: int, error: EdgepeftError | None = None) -> None:
        self._batch.drop(row)
        self._rows.pop(row).end(error)
