"""One build seen from outside: what it does, how it ended, and ways to end it.

What a build does is read from its run's folder (``run.json``, ``events.jsonl``), where every build writes; so one
that was started elsewhere is watched in the same way.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from edgepeft_tui.asking import error_line
from edgepeft_tui.past_training import past_training
from edgepeft_tui.progress import Progress
from edgepeft_tui.run_files import read_record

STARTING, STOPPING = "starting", "stopping"
ACTIVE = (STARTING, "running", STOPPING)
"""States of a build whose process is there."""
MEMORY_SECONDS = 2.0
"""Finding a job's processes goes through all of the machine's, so it is done no oftener."""
KILL_SECONDS = 3.0
"""How long a build that is to be killed may take to end its stage and write its record."""
MOST_AT_ONCE, LONGEST_EVENT = 4 << 20, 1 << 20
"""Bytes of events that are read between two paints, and that one event may take."""


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
    _asked: bool = False
    _kill_at: float | None = None

    @property
    def state(self) -> str:
        """``starting``, ``running``, ``stopping``, or how it ended: ``done``, ``gate missed``, ``failed``,
        ``interrupted``, ``killed``; ``damaged`` where its record can't be used, ``unknown`` where it has none.
        """
        state = self._own_state()
        asked = self._asked or self.progress.stopping
        return STOPPING if asked and state in ACTIVE else state

    def _own_state(self) -> str:
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
        return self.state in ACTIVE

    @property
    def result(self) -> dict[str, Any] | None:
        """What ``build --json`` printed, once it is done."""
        found = self.record.get("result")
        return found if isinstance(found, dict) and not self.active else None

    def waits_for(self) -> str:
        """What a build that was asked to stop is still about."""
        stage = self.progress.running()
        if stage is None:
            return "waits for its process to end"
        if stage.trains:
            return f"{stage.name} finishes its step and saves a checkpoint"
        return f"waits for {stage.name} to end"

    def error(self) -> str:
        """Why it failed, in one line, and where the log is; empty while it has not."""
        if self.active or self.state not in ("failed", "killed", "damaged"):
            return ""
        said = str(self.record.get("error") or "") if self.process is None else ""
        if not said and self.talk is not None:
            with contextlib.suppress(OSError):
                said = error_line(self.talk.read_text(encoding="utf-8", errors="replace"))
        said = said or str(self.record.get("error") or "")
        return said or "the process is gone: it was killed, or the machine went down"

    @property
    def log(self) -> Path:
        """The log of the stage that ran last, or the folder of logs."""
        logs = self.run / "logs"
        with contextlib.suppress(OSError, ValueError):
            return max(logs.glob("*.log"), key=lambda path: path.stat().st_mtime)
        return self.talk or logs

    # -- reading ------------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Read what is new; True if anything is."""
        before = self.state
        record = read_record(self.run)
        ours = self.process is None or record.get("pid") == self.process.pid
        changed = bool(record) and ours and record != self.record
        if changed:
            self.record = record
        if ours and record:
            changed |= self._read_events()
        if not self.active:
            self._asked, self._kill_at = False, None
            self.progress.settle(self.state)
        elif self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._kill_all()
        return changed or self.state != before

    def _read_events(self) -> bool:
        path = self.run / "events.jsonl"
        try:
            status = path.stat()
            identity = (status.st_dev, status.st_ino)
            identity_is_new = identity != self._file or status.st_size < self._place
            if identity_is_new:
                # A build that goes on begins its events anew.
                self.progress = Progress()
                self._file, self._place, self._rest = identity, 0, b""
            if status.st_size == self._place or not path.is_file():
                return False
            with path.open("rb") as stream:
                stream.seek(self._place)
                new = stream.read(MOST_AT_ONCE)
        except OSError:
            return False
        self._place += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        if len(self._rest) > LONGEST_EVENT:
            lines, self._rest = [*lines, b"\0"], b""
        for line in filter(None, lines):
            try:
                self.progress.feed(json.loads(line))
            except (ValueError, RecursionError):
                self.progress.leave_out()
        if identity_is_new:
            self.progress.take_up(*past_training(self.run))
        return True

    # -- ending -------------------------------------------------------------------------------------------

    @property
    def _pid(self) -> int | None:
        pid = self.process.pid if self.process is not None else self.record.get("pid")
        return pid if isinstance(pid, int) else None

    def stop(self) -> None:
        """Ask it to save what it has and end; the same build goes on from there later."""
        if self.active and self._pid is not None:
            self._asked = True
            self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it now: the build kills its stage; if that takes more than a few seconds, all its processes go."""
        if self.active and self._pid is not None:
            self._asked = True
            # Asked for the second time, a build kills its stage and writes into its record that it was stopped.
            self._send(signal.SIGTERM)
            self._kill_at = time.monotonic() + KILL_SECONDS

    def _send(self, number: signal.Signals) -> None:
        # The command takes SIGTERM as it takes Ctrl-C, also where its parent ignored the latter.
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._pid, number)

    def _kill_all(self) -> None:
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _processes(self) -> list[psutil.Process]:
        """The build's process, first, and those that it has started."""
        with contextlib.suppress(psutil.Error):
            if self._pid is not None:
                parent = psutil.Process(self._pid)
                return [parent, *parent.children(recursive=True)]
        return []

    def memory_bytes(self) -> int:
        """Resident bytes of its processes, 0 if they are gone; looked up every few seconds."""
        if not self.active:
            return 0
        now = time.monotonic()
        if now - self._memory[0] >= MEMORY_SECONDS:
            total = 0
            for process in self._processes():
                with contextlib.suppress(psutil.Error):
                    total += process.memory_info().rss
            self._memory = (now, total)
        return self._memory[1]
