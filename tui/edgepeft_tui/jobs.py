"""Builds as processes of their own: started, watched, stopped and found again.

A job is an ``edgepeft … --progress jsonl`` process in a session of its own, so neither a change of screens nor
the end of the terminal reaches it. What it does is read from its run's folder (``run.json``, ``events.jsonl``),
where every build writes; so a build that was started elsewhere is watched in the same way.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from edgepeft.errors import EdgepeftError
from edgepeft.history import read_run
from edgepeft_tui.asking import EDGEPEFT, error_line
from edgepeft_tui.progress import CURVES, Progress

STARTING = "starting"
MEMORY_SECONDS = 2.0
"""Finding a job's processes goes through all of the machine's, so it is done no oftener."""
NICENESS = 10
"""How far a build gives way to the screen."""


@dataclass
class Job:
    """A build seen from outside. ``process`` is set while it is our own child."""

    run: Path
    process: subprocess.Popen[bytes] | None = None
    talk: Path | None = None
    progress: Progress = field(default_factory=Progress)
    record: dict[str, Any] = field(default_factory=dict)
    _place: int = 0
    _file: tuple[int, int] | None = None
    _rest: bytes = b""
    _memory: tuple[float, int] = (float("-inf"), 0)

    @property
    def state(self) -> str:
        """``starting``, ``running``, or how it ended: done, gate missed, failed, interrupted, killed."""
        if self.process is not None and self.process.poll() is None:
            return "running" if self._file is not None else STARTING
        state = str(self.record.get("state", ""))
        # A child that ended before it wrote a record of its own failed on its recipe or its inputs.
        ended_early = self.process is not None and (not state or state == "running")
        if ended_early:
            return "killed" if self.process and self.process.returncode < 0 else "failed"
        return state or "unknown"

    @property
    def active(self) -> bool:
        """Whether its process is at work."""
        return self.state in (STARTING, "running")

    @property
    def result(self) -> dict[str, Any] | None:
        """What ``build --json`` printed, once it is done."""
        found = self.record.get("result")
        return found if isinstance(found, dict) and not self.active else None

    def error(self) -> str:
        """Why it failed, in one line, and where the log is; empty while it has not."""
        if self.active or self.state not in ("failed", "killed"):
            return ""
        said = str(self.record.get("error") or "") if self.process is None else ""
        if not said and self.talk is not None:
            with contextlib.suppress(OSError):
                said = error_line(self.talk.read_text(encoding="utf-8", errors="replace"))
        said = said or str(self.record.get("error") or "")
        return said or "its process is gone (killed, or the machine went down)"

    @property
    def log(self) -> Path:
        """The log of the stage that ran last, or the folder of logs."""
        logs = self.run / "logs"
        files = sorted(logs.glob("*.log"), key=lambda path: path.stat().st_mtime)
        return files[-1] if files else (self.talk or logs)

    def refresh(self) -> bool:
        """Read what is new; True if anything is."""
        before = self.state
        record = read_run(self.run)
        ours = self.process is None or record.get("pid") == self.process.pid
        changed = bool(record) and ours and record != self.record
        if changed:
            self.record = record
        if ours and record:
            changed |= self._read_events()
        if not self.active:
            self.progress.settle(self.state)
        return changed or self.state != before

    def _earlier_curves(self) -> None:
        """Put what was trained before this build's events began in front of them."""
        known = self.progress.curves
        for key, points in trained_curves(self.run).items():
            first = known[key][0][0] if known.get(key) else None
            earlier = [point for point in points if first is None or point[0] < first]
            if earlier:
                known[key] = [*earlier, *known.get(key, [])]

    def _read_events(self) -> bool:
        path = self.run / "events.jsonl"
        try:
            status = path.stat()
        except OSError:
            return False
        identity = (status.st_dev, status.st_ino)
        identity_is_new = identity != self._file or status.st_size < self._place
        if identity_is_new:
            # A build that goes on begins its events anew.
            self.progress = Progress()
            self._file, self._place, self._rest = identity, 0, b""
        if status.st_size == self._place:
            return False
        with path.open("rb") as stream:
            stream.seek(self._place)
            new = stream.read()
        self._place += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self.progress.feed(json.loads(line))
        if identity_is_new:
            self._earlier_curves()
        return True

    def stop(self) -> None:
        """Ask it to save what it has and end; the same build goes on from there later."""
        pid = self.process.pid if self.process is not None else self.record.get("pid")
        if self.active and isinstance(pid, int):
            # The command takes SIGTERM as it takes Ctrl-C, also where its parent ignored the latter.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)

    def memory_bytes(self) -> int:
        """Resident bytes of its processes, 0 if they are gone; looked up every few seconds."""
        now = time.monotonic()
        if now - self._memory[0] >= MEMORY_SECONDS:
            self._memory = (now, self._measured_memory())
        return self._memory[1] if self.active else 0

    def _measured_memory(self) -> int:
        pid = self.process.pid if self.process is not None else self.record.get("pid")
        if not self.active or not isinstance(pid, int):
            return 0
        total = 0
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(pid)
            for process in (parent, *parent.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += process.memory_info().rss
        return total


class Jobs:
    """The jobs that this app has started or looked at, by run folder. Screens come and go; jobs stay."""

    def __init__(self, state: Path) -> None:
        """``state`` is where a job's own talk is kept."""
        self._state = state
        self._jobs: dict[Path, Job] = {}

    def start(self, arguments: Sequence[str], run: Path, folder: Path) -> Job:
        """Start ``edgepeft ARGUMENTS --progress jsonl`` in ``folder``. Raises EdgepeftError if it can't start."""
        run = run.resolve()
        running = self._jobs.get(run)
        if running is not None and running.active:
            raise EdgepeftError(f"{run}: a build is at work in this folder; stop it first")
        place = self._state / "jobs"
        try:
            place.mkdir(parents=True, exist_ok=True)
            talk = place / f"{run.name}.log"
            with talk.open("wb") as stream:
                process = subprocess.Popen(
                    [*EDGEPEFT, *arguments, "--progress", "jsonl"],
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise EdgepeftError(f"{run}: the build can't be started ({error.strerror})") from None
        with contextlib.suppress(psutil.Error):
            # Where the processor is short, key presses come before training; alone, it loses nothing.
            psutil.Process(process.pid).nice(NICENESS)
        job = Job(run, process, talk)
        self._jobs[run] = job
        return job

    def watch(self, run: Path) -> Job:
        """The job of a run folder, started here or elsewhere."""
        run = run.resolve()
        job = self._jobs.get(run)
        if job is None or (job.process is not None and not job.active and _moved_on(job)):
            job = self._jobs[run] = Job(run)
        job.refresh()
        return job

    def forget(self, run: Path) -> None:
        """Drop what is known of a run whose folder is gone."""
        self._jobs.pop(run.resolve(), None)

    def active(self) -> list[Job]:
        """Jobs whose processes are at work, as far as they are known here."""
        return [job for job in self._jobs.values() if job.active]


def _moved_on(job: Job) -> bool:
    """Whether another build has taken the folder since ours ended."""
    pid = read_run(job.run).get("pid")
    return job.process is not None and pid is not None and pid != job.process.pid


def trained_curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The losses that a run's finished training, or its latest checkpoint, has on record; by metric."""
    finished = [*run.glob("stages/train-*/history.json")]
    places = finished or [*run.glob("scratch/train-*/checkpoints/checkpoint-*/trainer_state.json")]
    curves: dict[str, list[tuple[int, float]]] = {}
    if not places:
        return curves
    latest = max(places, key=lambda path: path.stat().st_mtime)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        read = json.loads(latest.read_text(encoding="utf-8"))
        for entry in read["log_history"] if isinstance(read, dict) else read:
            for key in CURVES:
                if key in entry:
                    curves.setdefault(key, []).append((int(entry["step"]), float(entry[key])))
    return curves
