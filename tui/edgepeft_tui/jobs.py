"""Builds as processes of their own: started, watched and found again.

A job is an ``edgepeft … --progress jsonl`` process in a session of its own, so neither a change of screens nor
the end of the terminal reaches it.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

from edgepeft.errors import EdgepeftError
from edgepeft_tui.asking import EDGEPEFT
from edgepeft_tui.job import Job
from edgepeft_tui.run_files import read_record

NICENESS = 10
"""How far a build gives way to the screen."""


class Jobs:
    """The jobs that this app has started or looked at, by run folder. Screens come and go; jobs stay."""

    def __init__(self, state: Path) -> None:
        """``state`` is where a job's own talk is kept."""
        self._state = state
        self._jobs: dict[Path, Job] = {}
        self._at_work: set[Path] = set()

    def start(self, arguments: Sequence[str], run: Path, folder: Path) -> Job:
        """Start ``edgepeft ARGUMENTS --progress jsonl`` in ``folder``. Raises EdgepeftError if it can't start."""
        run = run.resolve()
        running = self._jobs.get(run)
        if running is not None and running.active:
            raise EdgepeftError(f"{run}: a build is running in this folder; stop it first")
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

    def look(self) -> list[Job]:
        """Read what the jobs at work have said; those that have ended since the last look."""
        ended = []
        for path, job in list(self._jobs.items()):
            if job.active:
                self._at_work.add(path)
            elif path not in self._at_work:
                continue
            job.refresh()
            if not job.active:
                self._at_work.discard(path)
                ended.append(job)
        return ended

    def forget(self, run: Path) -> None:
        """Drop what is known of a run whose folder is gone."""
        self._jobs.pop(run.resolve(), None)

    def active(self) -> list[Job]:
        """Jobs whose processes are at work, as far as they are known here."""
        return [job for job in self._jobs.values() if job.active]


def _moved_on(job: Job) -> bool:
    """Whether another build has taken the folder since ours ended."""
    pid = read_record(job.run).get("pid")
    return job.process is not None and pid is not None and pid != job.process.pid
