"""The command's standard streams: always open, and filtered so that nothing that prints gets past.

Whatever reaches ``sys.stdout`` or ``sys.stderr`` shows its control characters. Two things go behind that filter:
escape sequences of rich, which has the same filter for text (``console``), and an answer that goes to a file.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO, cast

from edgepeft.utils.terminal_text import ENCODING_ERRORS, VisibleStream, unfiltered, visible_line


def open_streams() -> None:
    """Make the three standard streams fit to be used, whatever the command was started with."""
    _open_missing()
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = _visible(sys.stdout or _writer(1), "standard output")
    sys.stderr = _visible(sys.stderr or _writer(2), "standard error", dispensable=True)


def say(line: str, *, err: bool = False) -> None:
    """Print one line, whatever texts of others are in it."""
    print(visible_line(line), file=sys.stderr if err else sys.stdout)


def close_output() -> None:
    """Let what is left in a standard output that failed go nowhere, and nobody complain of it at the end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, unfiltered(sys.stdout).fileno())
        os.close(nowhere)


def _open_missing() -> None:
    """Open what the caller has closed of 0, 1 and 2, or the next file opened would be taken for it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)


def _writer(number: int) -> TextIO:
    return os.fdopen(number, "w", encoding="utf-8", closefd=False)


def _visible(stream: TextIO, name: str, *, dispensable: bool = False) -> TextIO:
    if isinstance(stream, VisibleStream):
        return stream
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=ENCODING_ERRORS)
    return cast(TextIO, VisibleStream(stream, name, dispensable=dispensable))
