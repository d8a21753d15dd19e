"""Temporary names that are locked by whoever writes under them, and the sweep of what the dead left.

A process holds a lock (flock) on what it has under a temporary name. What lies there without a lock was left by a
process that is gone, and ``sweep`` removes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

_MARK = ".edgepeft-"
UNFINISHED, REPLACED = ".tmp", ".old"
_LEFTOVER = re.compile(
    rf"\..*{re.escape(_MARK)}[a-z0-9_]{{8}}({re.escape(UNFINISHED)}|{re.escape(REPLACED)})"
)
_NAME_CHARACTERS = 40
"""How much of a final name a temporary one repeats: the file system bounds its length."""
_STALE_SECONDS = 86400.0
"""How long something lies untouched before it counts as left behind where a file system knows no locks."""
_held: dict[Path, int] = {}
"""Temporary folders of this process, each with the file descriptor that holds its lock."""


def temporary_folder(place: Path, name: str, kind: str) -> Path:
    """Make a temporary folder in ``place`` and hold its lock. Raises OSError."""
    while True:
        made = Path(tempfile.mkdtemp(prefix=f".{_cut(name)}{_MARK}", suffix=kind, dir=place))
        # Until it has its lock somebody may sweep it.
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(made, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
            if _lock(handle) is not False and made.exists():
                _held[made] = handle
                return made
            os.close(handle)


def temporary_file(path: Path) -> tuple[Path, BinaryIO]:
    """Make a temporary file beside ``path`` and hold its lock as long as it is open. Raises OSError."""
    while True:
        name = f".{_cut(path.name)}{_MARK}{secrets.token_hex(4)}{UNFINISHED}"
        made = path.with_name(name)
        with contextlib.suppress(FileExistsError):
            handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            if _lock(handle) is not False and made.exists():
                return made, os.fdopen(handle, "wb")
            os.close(handle)


def _cut(name: str) -> str:
    """The beginning of a name, not longer in bytes than it may be."""
    return os.fsencode(name)[:_NAME_CHARACTERS].decode("ascii", "replace").replace("\ufffd", "_")


def release(staged: Path) -> None:
    handle = _held.pop(staged, None)
    if handle is not None:
        os.close(handle)


def sweep(place: Path) -> None:
    """Remove what processes that are gone left under temporary names in ``place``; what is at work stays.

    A folder that was being replaced, and whose successor has not come, gets its name back.
    """
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(place)):
            if _LEFTOVER.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _sweep_one(Path(entry.path))


def _sweep_one(entry: Path) -> None:
    """Remove or restore one leftover, unless it is at work. Raises OSError."""
    handle = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        mine = _lock(handle)
        stale = time.time() - os.fstat(handle).st_mtime > _STALE_SECONDS
        if mine is False or (mine is None and not stale):
            return
        if entry.suffix == REPLACED:
            for old in entry.iterdir():
                if not (entry.parent / old.name).exists():
                    old.replace(entry.parent / old.name)
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink()
    finally:
        os.close(handle)


def _lock(handle: int) -> bool | None:
    """Take a lock without waiting: False where another has it, None where there are none to be had."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True
