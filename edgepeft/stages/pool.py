"""Running stages in child processes: events in, cancellation out, nothing orphaned."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

from edgepeft.errors import ERROR_CLASSES, EdgepeftError, InterruptedRun
from edgepeft.events import Event, Sink
from edgepeft.stages.job import Stage
from edgepeft.utils.threads import STAGE_THREADS, chosen_threads
from edgepeft.utils.user_folders import library_places

_GRACE_SECONDS = 180
"""How long a cancelled stage may take to save its state; a training step on a slow machine sets the scale."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", STAGE_THREADS)
"""Environment variables by which a stage's libraries are told how many threads to compute with."""


class Workers:
    """Carries out stages one after another, each in a process of its own; a context manager.

    They are forks of one process that has the libraries loaded (``worker``), started with the first stage.
    ``threads`` bounds what a stage computes with at a time; default: as many as this machine has cores for.
    Where ``run`` isn't called by the main thread, which alone hears Ctrl-C, ``interrupt`` stands for it.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._turn = threading.Lock()
        self._pid: int | None = None
        self._interrupted = False
        self._source: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._answers: IO[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def run(self, stage: Stage, inputs: dict[str, Path], out: Path, log: Path, sink: Sink) -> Event:
        """Run a stage in a child and return its ``ended`` event.

        Raises the EdgepeftError class that matches how the stage failed, InterruptedRun on Ctrl-C or SIGTERM.
        """
        if self._interrupted:
            raise InterruptedRun(f"{stage.name}: interrupted before it began")
        log.parent.mkdir(parents=True, exist_ok=True)
        request = {
            "stage": stage.name,
            "function": stage.function,
            "settings": stage.settings.model_dump(mode="json"),
            "inputs": {name: str(path) for name, path in inputs.items()},
            "out": str(out),
            "scratch": str(stage.scratch),
        }
        ended: Event | None = None
        job, events = os.pipe(), os.pipe()
        with (
            _job_pipe(job[1]) as asking,
            os.fdopen(events[0], encoding="utf-8") as channel,
        ):
            try:
                self._took(self._child(job[0], log, events[1]))
                # A child that is gone already tells by closing its events.
                with contextlib.suppress(BrokenPipeError):
                    asking.write(json.dumps(request) + "\n")
                    asking.flush()
                while True:
                    try:
                        for line in channel:
                            event: dict[str, Any] = json.loads(line)
                            if event["event"] == "ended":
                                ended = event
                            else:
                                sink(event)
                        break
                    except KeyboardInterrupt:
                        if not self._interrupted:
                            sink({"event": "message", "stage": stage.name, "text": "stopping"})
                        self.interrupt(at_once=self._interrupted)
                code = self._exit_code()
            except BaseException as error:
                _send(signal.SIGKILL, self._pid)
                self.close(at_once=True)
                if not isinstance(error, KeyboardInterrupt):
                    raise
                self._interrupted = True
            finally:
                self._took(None)
        if self._interrupted:
            raise InterruptedRun(f"{stage.name}: interrupted; run the same command to resume")
        if ended is None:
            raise EdgepeftError(f"{stage.name}: {_how_it_died(code)}; see {log}")
        if ended["status"] != 0:
            message = str(ended["error"])
            if ended.get("unexpected"):
                message = f"{message}; see {log}"
            raise ERROR_CLASSES.get(ended["status"], EdgepeftError)(f"{stage.name}: {message}")
        return ended

    @property
    def interrupted(self) -> bool:
        """Whether it was interrupted, and so takes no further stage."""
        return self._interrupted

    def interrupt(self, *, at_once: bool = False) -> None:
        """Have the stage at work save its state and end, and every later one refused; ``at_once`` kills it.

        Safe to call from any thread, whether a stage is at work or not.
        """
        with self._turn:
            first, self._interrupted = not self._interrupted, True
            if self._pid is not None and (first or at_once):
                _send(signal.SIGKILL if at_once else signal.SIGINT, self._pid)
            elif self._pid is None and self._source is not None:
                # Libraries are being loaded still, or nothing is at work.
                self._source.kill()

    def _took(self, pid: int | None) -> None:
        """Note which process is at work; one that was interrupted before it had begun is told now."""
        with self._turn:
            self._pid = pid
            if pid is not None and self._interrupted:
                _send(signal.SIGINT, pid)

    def _child(self, job: int, log: Path, events: int) -> int | None:
        """Hand a new child its ends of the pipes, which are closed here; its pid, None if it could not start."""
        with log.open("ab") as stream:
            try:
                control = self._control or self._start(stream)
                with contextlib.suppress(BrokenPipeError):
                    socket.send_fds(control, [b"."], [job, stream.fileno(), events])
            finally:
                os.close(job)
                os.close(events)
        return self._answer("pid")

    def _start(self, log: IO[bytes]) -> socket.socket:
        """Start the process that children are forked from; what it prints while loading goes to ``log``."""
        self._control, theirs = socket.socketpair()
        with theirs:
            # A session of its own keeps the terminal's Ctrl-C from a child before we have decided.
            # -P: a folder where somebody happens to stand must not shadow a library.
            self._source = subprocess.Popen(
                [sys.executable, "-P", "-m", "edgepeft.stages.worker"],
                stdin=theirs.fileno(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=_environment(self._threads),
            )
        self._answers = self._control.makefile(encoding="utf-8")
        return self._control

    def _answer(self, key: str) -> int | None:
        """The number that the process answers next, None once it is gone."""
        assert self._answers is not None
        with contextlib.suppress(ConnectionResetError):
            if line := self._answers.readline():
                return int(json.loads(line)[key])
        return None

    def _exit_code(self) -> int | None:
        """How the child ended that closed its events: its exit status, or minus the signal's number."""
        assert self._control is not None
        assert self._source is not None
        self._control.settimeout(_GRACE_SECONDS)
        code = self._answer("status")
        if code is None:
            # The process was the child itself, or has died with it.
            code = self._source.wait(_GRACE_SECONDS)
            self.close()
        else:
            self._control.settimeout(None)
        return code

    def close(self, *, at_once: bool = False) -> None:
        """End the process that stages are forked from; another stage would start a new one."""
        if self._source is None:
            return
        if at_once:
            self._source.kill()
        for end in (self._answers, self._control):
            if end is not None:
                end.close()
        try:
            self._source.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._source.kill()
            self._source.wait()
        self._source = self._control = self._answers = None


@contextlib.contextmanager
def _job_pipe(end: int) -> Iterator[IO[str]]:
    """A pipe to write to, which its reader may have closed by the time it is closed here."""
    stream = os.fdopen(end, "w", encoding="utf-8")
    try:
        yield stream
    finally:
        with contextlib.suppress(BrokenPipeError):
            stream.close()


def _send(number: signal.Signals, pid: int | None) -> None:
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _environment(threads: int | None) -> dict[str, str]:
    environment = dict(os.environ)
    if threads is not None:
        environment.update({name: str(threads) for name in THREADS})
    else:
        # What the user has set for a library counts there. OpenMP's variable is meant for MKL too, which torch
        # would otherwise ask first.
        counted = str(chosen_threads())
        for name in THREADS:
            openmp = None if name == STAGE_THREADS else environment.get(THREADS[0])
            environment[name] = environment.get(name) or openmp or counted
    # Nothing a stage loads may reach for a hub behind the user's back; models are resolved before.
    environment.setdefault("HF_HUB_OFFLINE", "1")
    environment.setdefault("TRANSFORMERS_VERBOSITY", "error")
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    environment["PYTHONUNBUFFERED"] = "1"
    environment.update(library_places())
    return environment


def _how_it_died(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed (out of memory?)"
    if code is not None and code < 0:
        return f"its process was ended by signal {-code}"
    return f"its process ended without a result (status {code})"
