"""One piece of work in a process of its own, and in plain words how that died if it did.

A runtime that dies takes its process with it; whoever compares two of them must say which it was.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from edgepeft.errors import ERROR_CLASSES, EdgepeftError, one_line


def run_in_child(module: str, asked: dict[str, Any], who: str) -> dict[str, Any]:
    """What ``python -m module`` answers to ``asked``; ``answer_parent`` is its other end.

    ``who`` names what works there, in errors. Raises the error that it answers with, EdgepeftError where its
    process dies without an answer.
    """
    # -P: a folder where somebody happens to stand must not shadow a library.
    command = [sys.executable, "-P", "-m", module, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise EdgepeftError(f"{who}: {how_it_died(done.returncode, done.stderr)}") from None
    if "error" in found:
        raise ERROR_CLASSES[found["status"]](found["error"])
    return found


def how_it_died(status: int, errors: str) -> str:
    """A process's end in words: ``status`` as subprocess has it, and the last line it wrote to standard error."""
    if status >= 0:
        how = f"its process ended with status {status} and no result"
    else:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        how = f"its process was killed by {name}"
        if -status == signal.SIGKILL:
            how += " (out of memory?)"
    lines = [line for line in errors.splitlines() if line.strip()]
    return how if not lines else f"{how}; the last line it wrote: {one_line(lines[-1])[:300]}"


def answer_parent(
    work: Callable[[dict[str, Any]], dict[str, Any]], who: Callable[[dict[str, Any]], str]
) -> None:
    """Do what the command line's argument asks for and print the result as one line of JSON.

    A library's own exceptions, of whatever kind, are told as ``who``'s failure.
    """
    asked = json.loads(sys.argv[1])
    name = who(asked)
    try:
        found = work(asked)
    except EdgepeftError as error:
        found = {"error": str(error), "status": error.exit_status}
    except Exception as error:  # the runtimes' own exceptions share no base but this
        kind = "" if isinstance(error, RuntimeError) else f"{type(error).__name__}: "
        found = {"error": f"{name}: failed ({kind}{one_line(error)})", "status": 1}
    print(json.dumps(found), flush=True)
