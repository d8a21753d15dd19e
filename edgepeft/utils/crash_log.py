"""The traceback of an error that nobody expected, in a file that the user's one line names."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from edgepeft.errors import outcome_of
from edgepeft.utils.user_folders import cache_folder, state_folder

_NAME = "edgepeft-crash-"
_KEPT = 20
"""Logs that a folder keeps; older ones go when another is written."""

_of_run: list[Path] = []


def log_crashes_in(folder: Path | None) -> None:
    """Have tracebacks written to ``folder``, a run's logs, from now on; None: to the user's folders again."""
    _of_run[:] = [] if folder is None else [folder]


def told(error: BaseException, place: object = None) -> str:
    """The line for an exception (see ``outcome_of``), with the file of its traceback where it has one."""
    outcome = outcome_of(error, place)
    if not outcome.unexpected:
        return outcome.line
    path = write_crash_log(error)
    where = f"traceback: {path}" if path else "its traceback could be written nowhere"
    return f"{outcome.line}; {where}"


def write_crash_log(error: BaseException) -> Path | None:
    """Write the traceback of ``error`` where it can be written; None where that is nowhere.

    It goes into the run's logs, the user's state or cache folder, or the folder for temporary files.
    """
    text = _traceback(error)
    places: tuple[Callable[[], Path], ...] = (
        *(lambda folder=folder: folder for folder in _of_run),
        lambda: state_folder() / "logs",
        lambda: cache_folder() / "logs",
        lambda: Path(tempfile.gettempdir()),
    )
    for place in places:
        with contextlib.suppress(OSError, RuntimeError):
            return _write(place().absolute(), text)
    return None


def _traceback(error: BaseException) -> bytes:
    try:
        lines = traceback.format_exception(error)
    except Exception:  # an exception whose text can't be had
        lines = [f"{type(error).__name__}\n"]
    command = " ".join(sys.orig_argv)
    return f"{command}\n\n{''.join(lines)}".encode("utf-8", "backslashreplace")


def _write(folder: Path, text: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%S")
    handle, name = tempfile.mkstemp(prefix=f"{_NAME}{stamp}-", suffix=".log", dir=folder)
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(text)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):
        for old in sorted(folder.glob(f"{_NAME}*.log"))[:-_KEPT]:
            old.unlink()
    return path
