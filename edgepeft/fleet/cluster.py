"""The crew on a Dask cluster: each of its workers is a place. Files are the workers' to share."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from edgepeft import __version__
from edgepeft.errors import EdgepeftError, InputError, MissingError, one_line
from edgepeft.events import Sink
from edgepeft.fleet import remote
from edgepeft.fleet.scheduling import Done, Place, PlaceLost
from edgepeft.fleet.tasks import Task
from edgepeft.pipeline.execute import Order
from edgepeft.runs.folder import RunFolder
from edgepeft.utils.crash_log import told

CONNECT_SECONDS = 20
"""How long the scheduler, and then its first worker, may take to answer."""
_ADDRESS = re.compile(r"((tcp|tls|ws|wss)://)?([\w.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}")
_LOOK_SECONDS = 2.0
"""How often the workers that there are are asked for."""
_ALONE_SECONDS = 120.0
"""How long a cluster may be without a worker."""


class ClusterCrew:
    """Carries tasks out on the workers of the Dask scheduler at ``address``; a context manager.

    A worker takes ``jobs`` tasks at a time, within ``memory`` bytes or its own limit. Raises MissingError without
    dask.distributed, InputError for what is no address, EdgepeftError where no scheduler or no worker answers.
    """

    def __init__(self, address: str, jobs: int = 1, memory: float | None = None) -> None:
        try:
            import distributed
        except ImportError:
            raise MissingError(
                "--cluster: dask.distributed is not installed: pip install 'edgepeft[cluster]'"
            ) from None
        if not _ADDRESS.fullmatch(address):
            raise InputError(f"--cluster {address}: not an address; write it as tcp://host:8786")
        self._address = address
        self._jobs = jobs
        self._memory = memory
        # Connections that end are told in our words.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        try:
            self._client: Any = distributed.Client(
                address, timeout=CONNECT_SECONDS, set_as_default=False
            )
        except OSError as error:
            raise EdgepeftError(
                f"--cluster {address}: no Dask scheduler answers there ({one_line(error)})"
            ) from None
        self._token = uuid.uuid4().hex
        self._topic = f"edgepeft-{self._token}"
        self._beat: Path | None = None
        self._stop = 0
        self._beating = threading.Event()
        self._places: dict[str, Place] = {}
        self._threads: dict[str, int] = {}
        self._looked = float("-inf")
        self._alone_since: float | None = None
        self._futures: dict[str, tuple[Any, Task, Place, Done]] = {}
        self._sinks: dict[str, Sink] = {}
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        with contextlib.suppress(Exception):
            self._client.run(remote.release, wait=True)
        self._beating.set()
        with contextlib.suppress(Exception):
            self._client.close(timeout=5)

    @contextlib.contextmanager
    def at(self, run: RunFolder) -> Iterator[None]:
        """Work in a run's folder, which is locked. Raises EdgepeftError unless all workers see it as it is."""
        self._beat = run.path / ".beat"
        earlier = self._beat.exists()
        remote.Beat(self._token).write(self._beat)
        if earlier:
            # A build that was killed may have tasks at work here; they notice, and end.
            time.sleep(3 * remote.BEAT_SECONDS)
        beating = threading.Thread(target=self._go_on_beating, daemon=True)
        beating.start()
        self._client.subscribe_topic(self._topic, self._hear)
        try:
            self._check_workers()
            yield
        except BaseException:
            self.interrupt(at_once=True)
            raise
        finally:
            self._beating.set()
            beating.join()
            self._beat.unlink(missing_ok=True)

    def _go_on_beating(self) -> None:
        number = 0
        while not self._beating.wait(remote.BEAT_SECONDS):
            number += 1
            self._write_beat(number)

    def _write_beat(self, number: int = 0) -> None:
        if self._beat is not None:
            # A full disk is told by the task that meets it.
            with contextlib.suppress(EdgepeftError):
                remote.Beat(self._token, number, self._stop).write(self._beat)

    def _check_workers(self) -> None:
        """Raise EdgepeftError or MissingError unless every worker has this edgepeft and sees the run's folder."""
        assert self._beat is not None
        self.places()
        try:
            self._client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            found = self._client.run(remote.version, self._beat, self._token)
        except TimeoutError:
            raise EdgepeftError(f"--cluster {self._address}: has no workers") from None
        except ImportError as error:
            raise MissingError(
                f"--cluster {self._address}: its workers lack what this machine has ({one_line(error)}): "
                f"pip install edgepeft=={__version__} there"
            ) from None
        for worker, (version, sees) in found.items():
            if version != __version__:
                raise MissingError(
                    f"--cluster {self._address}: {worker} has edgepeft {version}, and this is {__version__}"
                )
            if not sees:
                raise EdgepeftError(
                    f"--cluster {self._address}: {worker} does not see {self._beat.parent}; choose --out on a "
                    "file system that all workers share"
                )

    def places(self) -> Sequence[Place]:
        """A place for every worker there is. Raises EdgepeftError when there has long been none."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return list(self._places.values())
        self._looked = now
        try:
            workers = self._client.scheduler_info(n_workers=-1)["workers"]
        except (OSError, TimeoutError) as error:
            raise EdgepeftError(
                f"--cluster {self._address}: the scheduler is gone ({one_line(error)}); run the same command to "
                "resume"
            ) from None
        for name, facts in workers.items():
            if name not in self._places:
                limit = self._memory or float(facts["memory_limit"] or "inf")
                self._places[name] = Place(name, self._jobs, limit)
                self._threads[name] = max(1, int(facts["nthreads"]) // self._jobs)
        for name in set(self._places) - set(workers):
            self._lose(self._places.pop(name))
        self._alone_since = None if self._places else self._alone_since or now
        if self._alone_since is not None and now - self._alone_since > _ALONE_SECONDS:
            raise EdgepeftError(f"--cluster {self._address}: all workers are gone")
        return list(self._places.values())

    def _lose(self, place: Place) -> None:
        for task in place.running:
            with self._turn:
                known = self._futures.pop(task.label, None)
            if known is not None:
                known[0].cancel()
                known[3](task, place, PlaceLost(f"{task.label}: the worker {place.name} is gone"))

    def start(self, task: Task, order: Order, place: Place, sink: Sink, done: Done) -> None:
        """Begin a task on a worker."""
        self._sinks[task.label] = sink
        future = self._client.submit(
            remote.carry,
            order,
            task.label,
            self._threads[place.name],
            self._beat,
            self._token,
            self._topic,
            key=f"{task.label}-{uuid.uuid4().hex[:8]}",
            pure=False,
            workers=[place.name],
            allow_other_workers=False,
        )
        with self._turn:
            self._futures[task.label] = (future, task, place, done)
        future.add_done_callback(lambda ended: self._end(task.label, ended))

    def _end(self, label: str, future: Any) -> None:
        with self._turn:
            known = self._futures.get(label)
            if known is None or known[0].key != future.key:
                return
            del self._futures[label]
        _, task, place, done = known
        error = future.exception() if future.status in ("finished", "error") else None
        if future.status not in ("finished", "error") or type(error).__name__ == "KilledWorker":
            error = PlaceLost(f"{label}: the worker {place.name} is gone")
        elif error is not None and not isinstance(error, EdgepeftError):
            error = EdgepeftError(f"{label}: {place.name}: {told(error)}")
        done(task, place, error)

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        """Pass on what a worker says of its task."""
        _, message = event
        sink = self._sinks.get(message["label"])
        if sink is not None:
            sink(message["event"])

    def interrupt(self, *, at_once: bool) -> None:
        """Tell all workers to have their tasks save their state and end, or end at once."""
        self._stop = 2 if at_once else 1
        self._write_beat()
        if at_once:
            with self._turn:
                futures = [future for future, *_ in self._futures.values()]
            self._client.cancel(futures, force=True)
