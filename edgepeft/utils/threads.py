"""How many threads an engine computes with: as asked, as the environment says, or as this machine's cores are."""

from __future__ import annotations

import os

from edgepeft.errors import InputError
from edgepeft.utils.processors import processors

STAGE_THREADS = "EDGEPEFT_THREADS"
"""Environment variable that says how many threads to compute with; stages of a build always have it."""

_MOST = 1024


def threads_of_stage() -> int | None:
    """Threads that this process was given, as where others work beside it; None where nothing is said.

    Raises InputError where the environment says what can't be.
    """
    said = os.environ.get(STAGE_THREADS, "")
    if not said:
        return None
    return _counted(STAGE_THREADS, int(said) if said.isdecimal() else said)


def chosen_threads(asked: int | None = None) -> int:
    """Threads to compute with, for every engine. Raises InputError for a number that can't be."""
    if asked is None:
        return threads_of_stage() or processors().threads
    return _counted("threads", asked)


def _counted(name: str, threads: int | str) -> int:
    if isinstance(threads, str) or not 1 <= threads <= _MOST:
        raise InputError(f"{name}: must be a whole number from 1 to {_MOST}, not {threads!r}")
    return threads
