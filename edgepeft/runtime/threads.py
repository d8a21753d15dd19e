"""How many threads a session computes with: as asked, as a stage was told, or as onnxruntime chooses."""

from __future__ import annotations

import os

from edgepeft.errors import InputError

STAGE_THREADS = "EDGEPEFT_THREADS"
"""Environment variable that says how many threads a stage may compute with."""


def threads_of_stage() -> int | None:
    """Threads that a stage of a build was given because others work beside it; None where nothing is said."""
    said = os.environ.get(STAGE_THREADS, "")
    return int(said) if said.isdecimal() and int(said) > 0 else None


def chosen_threads(asked: int | None) -> int | None:
    """What to open a session with; None leaves it to onnxruntime. Raises InputError for less than one."""
    threads = threads_of_stage() if asked is None else asked
    if threads is not None and threads < 1:
        raise InputError(f"threads: must be 1 or more, not {threads}")
    return threads
