"""Stages in processes of their own: ``python -m edgepeft.stages.worker``, started by ``pool.Workers``.

This process loads the heavy libraries once and forks for every stage, so that a stage starts with them in place.
Memory comes back when the fork ends, and what libraries do to the interpreter stays there. Where a fork would be
unsafe, on a machine with a GPU in use or on another system than Linux, the process carries out one stage itself.

Standard input is a socket to the parent. Each message on it brings three file descriptors: the job, a pipe with
one line of JSON that stays open, its end meaning that the parent is gone; the stage's log, for standard output
and error; and a pipe for events, as JSON lines. Answers are JSON lines: the fork's pid, then its exit status.
"""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

from edgepeft.compat.bitsandbytes_eager import import_without_compiler
from edgepeft.errors import EXIT_INTERRUPTED, outcome_of
from edgepeft.events import Event, Events
from edgepeft.stages.job import Job, StageFunction, settings_for
from edgepeft.utils.memory import peak_memory_bytes

FILES = 3
"""File descriptors that come with a message: job, log, events."""


def main() -> None:
    """Serve the socket on standard input until the parent closes it."""
    control = socket.socket(fileno=os.dup(0))
    forks = _load_libraries() and sys.platform == "linux"
    while True:
        _, files, _, _ = socket.recv_fds(control, 1, FILES)
        if len(files) < FILES:
            return
        pid = os.fork() if forks else 0
        if pid == 0:
            if not forks:
                _answer(control, {"pid": os.getpid()})
            control.close()
            for place, file in ((0, files[0]), (1, files[1]), (2, files[1])):
                os.dup2(file, place)
            work(files[2])
        for file in files:
            os.close(file)
        _answer(control, {"pid": pid})
        _, status = os.waitpid(pid, 0)
        _answer(control, {"status": os.waitstatus_to_exitcode(status)})


def _load_libraries() -> bool:
    """Import what nearly every stage uses; whether this process may be forked afterwards.

    CUDA does not survive a fork, and importing bitsandbytes, as PEFT does, may have begun with it. A library that
    is not there is missed by the stage that needs it.
    """
    with contextlib.suppress(ImportError):
        import_without_compiler()
        import peft  # noqa: F401
        import torch

        return not torch.cuda.is_available()
    return True


def _answer(control: socket.socket, message: dict[str, int]) -> None:
    with contextlib.suppress(BrokenPipeError):
        control.sendall(json.dumps(message).encode() + b"\n")


def work(events_fd: int) -> NoReturn:
    """Run the job on standard input, tell how it ended, and leave the process."""
    line = sys.stdin.readline()
    if not line:
        os._exit(EXIT_INTERRUPTED)
    request = json.loads(line)
    lock = threading.Lock()
    channel = os.fdopen(events_fd, "w", buffering=1)

    def send(event: Event) -> None:
        with lock:
            channel.write(json.dumps(event) + "\n")

    threading.Thread(target=_leave_with_parent, daemon=True).start()
    # A shell makes what it starts in the background deaf to SIGINT, and a stage would stay so.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    started = time.monotonic()
    status: int
    fields: dict[str, Any]
    try:
        function: StageFunction = pkgutil.resolve_name(request["function"])
        job = Job(
            settings=settings_for(function, request["settings"]),
            inputs={name: Path(path) for name, path in request["inputs"].items()},
            out=Path(request["out"]),
            scratch=Path(request["scratch"]),
            events=Events(request["stage"], send),
        )
        status, fields = 0, {"result": function(job).as_dict()}
    except BaseException as error:
        status, fields = ending(error, Path(request["out"]))
    send(
        {
            "event": "ended",
            "stage": request["stage"],
            "status": status,
            "seconds": time.monotonic() - started,
            "peak_memory_bytes": peak_memory_bytes(children=True),
            **fields,
        }
    )
    channel.close()
    # A library's worker threads must not keep a finished stage alive.
    os._exit(status)


def ending(error: BaseException, out: Path) -> tuple[int, dict[str, Any]]:
    """The exit status of a stage that writes into ``out`` and has failed, and what its parent is told of that.

    The traceback of an error that nobody expected goes to standard error, the stage's log.
    """
    outcome = outcome_of(error, out)
    if not outcome.unexpected:
        return outcome.status, {"error": outcome.line}
    # The disk that is full may be the log's.
    with contextlib.suppress(OSError):
        traceback.print_exception(error)
    return outcome.status, {"error": outcome.line, "unexpected": True}


def _leave_with_parent() -> None:
    """End this process when the parent's end of the pipe closes: a killed build must not write on."""
    sys.stdin.read()
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
