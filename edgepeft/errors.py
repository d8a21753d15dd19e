"""What can go wrong, and the exit status each kind of failure ends the command with.

Every error that a user can cause is one of these classes, carries one line that names the file, the key
and the mend, and is printed without a traceback. ``outcome_of`` makes a line and a status of anything else, for
the command, the processes of stages and the workers of a cluster alike.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_MISSING = 3
EXIT_GATE = 4
EXIT_INTERRUPTED = 130


class EdgepeftError(Exception):
    """The work itself failed: disk full, folder locked, a tensor that is not finite. Exit status 1."""

    exit_status = EXIT_FAILED


class InputError(EdgepeftError):
    """Something the user handed in is wrong: usage, recipe, model or data. Exit status 2."""

    exit_status = EXIT_USAGE


class MissingError(EdgepeftError):
    """A dependency or a piece of hardware is not there; the message says what to install. Exit status 3."""

    exit_status = EXIT_MISSING


class GateError(EdgepeftError):
    """A fidelity gate was missed; the bundle is kept and marked. Exit status 4.

    ``result`` is what was built, where whoever raises it has that.
    """

    exit_status = EXIT_GATE

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


class InterruptedRun(EdgepeftError):
    """Ctrl-C or a termination signal; the state on disk can be resumed. Exit status 130."""

    exit_status = EXIT_INTERRUPTED


ERROR_CLASSES: dict[int, type[EdgepeftError]] = {
    cls.exit_status: cls
    for cls in (EdgepeftError, InputError, MissingError, GateError, InterruptedRun)
}
"""Exit status to class: how a stage's process tells its parent which kind of error it met."""


_NAMES = 60
"""Names that an error lists; there are fewer methods, targets and algorithms, but there may be more adapters."""


def unknown_name(key: str, what: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that a registry doesn't hold: the nearest one, and all there are."""
    names = list(known)
    near = nearest(name, names)
    hint = f"did you mean {near}? " if near else ""
    shown = ", ".join(names[:_NAMES]) + (f" … ({len(names)} in all)" if len(names) > _NAMES else "")
    return InputError(f"{key}: {name}: no such {what}; {hint}{what}s: {shown}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like ``name``; None where none is like it."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def one_line(message: object) -> str:
    """Fold a message of several lines (a library's exception, say) into the single line users are shown."""
    return " ".join(str(message).split())


class Outcome(NamedTuple):
    """How an exception ends a command or a stage: its exit status, one line, and whether a traceback helps."""

    status: int
    line: str
    unexpected: bool = False


def outcome_of(error: BaseException, place: object = None) -> Outcome:
    """The exit status and the line for any exception.

    ``place`` is named for a refusal of the operating system that names no file itself.
    """
    if isinstance(error, EdgepeftError):
        return Outcome(error.exit_status, str(error))
    if isinstance(error, KeyboardInterrupt):
        return Outcome(EXIT_INTERRUPTED, "interrupted")
    met = system_error(error)
    if isinstance(met, FileNotFoundError) and met.filename is None and not _has_working_folder():
        return Outcome(EXIT_USAGE, "the working folder is gone; change to another one")
    text, name = _text_of(error), type(error).__name__
    if met is not None:
        where = met.filename if met.filename is not None else place
        if isinstance(where, bytes):
            where = os.fsdecode(where)
        line = refusal(met) if where is None else f"{where}: {refusal(met)}"
    elif isinstance(error, MemoryError) or re.search(_NO_MEMORY, text, re.IGNORECASE):
        line = _OUT_OF_MEMORY
    elif re.search(_NOT_WRITTEN, text):
        where = f"{place}: " if place is not None else ""
        line = f"{where}a file could not be written whole; the disk is full, or {_LIMITED}"
    elif isinstance(error, RecursionError):
        line = "something is nested too deeply to be read"
    elif isinstance(error, UnicodeError):
        line = f"text that is not valid: {text}"
    else:
        line = f"{name}: {text}" if text else name
    return Outcome(EXIT_FAILED, line, unexpected=True)


def _text_of(error: BaseException) -> str:
    """What an exception says, in one line; nothing where it can't even say that."""
    try:
        return one_line(error)
    except Exception:
        return ""


def _has_working_folder() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def system_error(error: BaseException) -> OSError | None:
    """A refusal of the operating system that an exception is, or tells of as libraries in Rust do."""
    if isinstance(error, OSError):
        return error
    found = re.search(r"\(os error (\d+)\)", _text_of(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None


def refusal(error: OSError) -> str:
    """What the operating system refuses, in words, with the mend where there is one; no file is named."""
    number = error.errno
    if number in _REFUSALS:
        return _REFUSALS[number]
    if error.strerror:
        return error.strerror
    return one_line(error) or (os.strerror(number) if number else type(error).__name__)


_FULL = "the disk is full; free some space and run the same command"
_LIMITED = "larger than the limit (ulimit -f, or the file system's limit)"
_OUT_OF_MEMORY = "out of memory"
_NO_MEMORY = r"can't allocate memory|out of memory|bad_alloc"
"""How libraries in other languages say it in exceptions of their own."""
_NOT_WRITTEN = r"inline_container\.cc.*(unexpected pos|write failed)|PytorchStreamWriter failed"
"""How torch tells that it could not write a checkpoint; the operating system's reason is lost there."""
_REFUSALS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: f"the file is {_LIMITED}",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "the operation is not permitted",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EMLINK: "too many links",
    errno.ELOOP: "the symbolic links form a loop",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine",
    errno.ENOMEM: _OUT_OF_MEMORY,
}
"""What a refusal of the operating system means to a user, by its number."""
