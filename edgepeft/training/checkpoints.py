"""Training checkpoints that survive a kill at any moment.

The trainer writes a checkpoint file by file; a kill in the middle leaves one that looks whole. A checkpoint
counts here only once every file has been flushed and a marker written after them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MARKER = "edgepeft-complete"


def mark_complete(checkpoint: Path) -> None:
    """Flush a checkpoint's files to disk, then say that it is whole."""
    for file in [*checkpoint.iterdir(), checkpoint]:
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    (checkpoint / MARKER).touch()


def last_complete(folder: Path) -> Path | None:
    """The newest whole checkpoint under ``folder``; half-written ones are removed."""
    found: list[tuple[int, Path]] = []
    for checkpoint in folder.glob("checkpoint-*"):
        if (checkpoint / MARKER).is_file():
            found.append((int(checkpoint.name.rpartition("-")[2]), checkpoint))
        else:
            shutil.rmtree(checkpoint, ignore_errors=True)
    return max(found)[1] if found else None
