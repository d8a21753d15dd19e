"""Asking the core in a process of its own, so that no question, however heavy, holds up a key press."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from edgepeft.errors import EdgepeftError

PYTHON = (sys.executable, "-P", "-m")
"""A module of ours in a process of its own; without -P a folder edgepeft in the working folder would be run."""
EDGEPEFT = (*PYTHON, "edgepeft.cli.app")


async def ask(*arguments: str, folder: Path, text: str = "") -> Any:
    """What ``edgepeft ARGUMENTS --json`` answers, run in ``folder`` with ``text`` on its standard input.

    Raises EdgepeftError with the command's own line, or where it can't be run there. A cancelled question
    ends its process.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *EDGEPEFT,
            *arguments,
            "--json",
            cwd=folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise EdgepeftError(f"{folder}: can't be worked in ({error.strerror})") from None
    except ValueError:
        raise EdgepeftError(
            f"{arguments[-1]!r}: contains characters that no command accepts"
        ) from None
    try:
        out, err = await process.communicate(text.encode(errors="replace"))
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        # Its pipes are read to their end, else they outlive the loop that closes them.
        await process.communicate()
        raise
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(out)
    raise EdgepeftError(
        error_line(err.decode(errors="replace")) or "the command ended without an answer"
    )


def error_line(talk: str) -> str:
    """The error of a command in what it wrote on standard error: its last line of talk."""
    lines = [line for line in talk.splitlines() if line.strip() and not line.startswith("{")]
    said = [line for line in lines if line.startswith("edgepeft: ")]
    line = (said or lines or [""])[-1]
    return line.removeprefix("edgepeft: ").strip()


def message_in(line: bytes) -> dict[str, Any]:
    """What a process of ours says in a line of JSON; nothing where a library has printed something."""
    with contextlib.suppress(ValueError, RecursionError):
        said = json.loads(line)
        return said if isinstance(said, dict) else {}
    return {}
