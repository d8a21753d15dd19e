"""Running one stage in a child process: events in, cancellation out, nothing orphaned."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgepeft.errors import ERROR_CLASSES, EdgepeftError, InterruptedRun
from edgepeft.events import Event, Sink
from edgepeft.stage import Stage

_GRACE_SECONDS = 180
"""How long a cancelled stage may take to save its state; a training step on a slow machine sets the scale."""


def run_in_process(
    stage: Stage, inputs: dict[str, Path], out: Path, log: Path, sink: Sink
) -> Event:
    """Run a stage in a child and return its ``ended`` event.

    Raises the EdgepeftError class that matches how the stage failed, InterruptedRun on Ctrl-C or SIGTERM.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    read_end, write_end = os.pipe()
    request = {
        "stage": stage.name,
        "function": stage.function,
        "settings": dict(stage.settings),
        "inputs": {name: str(path) for name, path in inputs.items()},
        "out": str(out),
        "scratch": str(stage.scratch),
        "events_fd": write_end,
    }
    with log.open("ab") as stream:
        # A session of its own keeps the terminal's Ctrl-C from reaching the child before we have decided.
        child = subprocess.Popen(
            # -P: a folder where somebody happens to stand must not shadow a library.
            [sys.executable, "-P", "-m", "edgepeft.worker"],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            pass_fds=(write_end,),
            start_new_session=True,
            env=_environment(),
        )
    os.close(write_end)
    assert child.stdin is not None
    ended: Event | None = None
    interrupted = False
    try:
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()
        with os.fdopen(read_end, encoding="utf-8") as channel:
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
                    if interrupted:
                        child.kill()
                    else:
                        interrupted = True
                        sink({"event": "message", "stage": stage.name, "text": "stopping"})
                        child.send_signal(signal.SIGINT)
        child.wait(timeout=_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        with contextlib.suppress(OSError):
            child.stdin.close()
    if interrupted:
        raise InterruptedRun(f"{stage.name}: interrupted; the same command goes on from here")
    if ended is None:
        raise EdgepeftError(f"{stage.name}: {_how_it_died(child.returncode)}; see {log}")
    if ended["status"] != 0:
        message = str(ended["error"])
        if ended.get("unexpected"):
            message = f"{message}; see {log}"
        raise ERROR_CLASSES.get(ended["status"], EdgepeftError)(f"{stage.name}: {message}")
    return ended


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    # Nothing a stage loads may reach for a hub behind the user's back; models are resolved before.
    environment.setdefault("HF_HUB_OFFLINE", "1")
    environment.setdefault("TRANSFORMERS_VERBOSITY", "error")
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def _how_it_died(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed (out of memory?)"
    if code is not None and code < 0:
        return f"its process died of signal {-code}"
    return f"its process ended without a result (status {code})"
