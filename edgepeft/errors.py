"""What can go wrong, and the exit status each kind of failure ends the command with.

Every error that a user can cause is one of these classes, carries one line that names the file, the key
and the mend, and is printed without a traceback. Anything else that escapes is a bug in edgepeft.
"""

from __future__ import annotations

from collections.abc import Iterable

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
    """A fidelity gate was missed; the bundle is kept and marked. Exit status 4."""

    exit_status = EXIT_GATE


class InterruptedRun(EdgepeftError):
    """Ctrl-C or a termination signal; the state on disk can be resumed. Exit status 130."""

    exit_status = EXIT_INTERRUPTED


ERROR_CLASSES: dict[int, type[EdgepeftError]] = {
    cls.exit_status: cls
    for cls in (EdgepeftError, InputError, MissingError, GateError, InterruptedRun)
}
"""Exit status to class: how a stage's process tells its parent which kind of error it met."""


def unknown_name(key: str, what: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that a registry doesn't hold: the nearest one, and all there are."""
    names = list(known)
    near = nearest(name, names)
    hint = f"did you mean {near}? " if near else ""
    return InputError(f"{key}: {name}: no such {what}; {hint}{what}s: {', '.join(names)}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like ``name``; None where none is like it."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def one_line(message: object) -> str:
    """Fold a message of several lines (a library's exception, say) into the single line users are shown."""
    return " ".join(str(message).split())
