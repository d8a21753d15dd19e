"""The ``edgepeft`` command from start to exit status: whatever goes wrong is one line on stderr."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from edgepeft.cli.streams import close_output, open_streams
from edgepeft.errors import EXIT_DONE, EXIT_FAILED, outcome_of
from edgepeft.utils.crash_log import told
from edgepeft.utils.terminal_text import ReaderGone, visible_line


def main() -> NoReturn:
    """Run the command and leave with its exit status.

    An error of ours, and an interruption, is its own line. Anything else ends with status 1 and a line that names
    the file with its traceback. A reader that has closed our output is no failure.
    """
    open_streams()
    signal.signal(signal.SIGTERM, _interrupt)
    threading.excepthook = _tell_of_thread
    try:
        status = _run()
        sys.stdout.flush()
    except ReaderGone:
        close_output()
        status = EXIT_DONE
    except BaseException as error:
        status = _tell(error)
        try:
            sys.stdout.flush()
        except (OSError, ReaderGone):
            close_output()
    sys.exit(status)


def _run() -> int:
    """Carry out the command line; the exit status of what typer ends by itself, usage errors above all."""
    # Commands and what they import belong under the net too.
    from edgepeft.cli.commands import Raised, app

    try:
        app()
    except Raised as carried:
        raise carried.__cause__ or carried from None
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else EXIT_FAILED if ended.code else 0
    return EXIT_DONE


def _tell(error: BaseException) -> int:
    """Say in one line what ended the command; its exit status."""
    _say(told(error))
    return outcome_of(error).status


def _tell_of_thread(details: threading.ExceptHookArgs) -> None:
    """Say what ended a thread, which ends no command by itself."""
    if details.exc_value is not None and not isinstance(details.exc_value, SystemExit):
        _say(told(details.exc_value))


def _say(line: str) -> None:
    # Nobody is left to tell where standard error is gone too.
    with contextlib.suppress(OSError, ReaderGone, ValueError):
        print(f"edgepeft: {visible_line(line)}", file=sys.stderr, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
