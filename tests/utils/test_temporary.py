"""Temporary names are had by one alone, also where others sweep at the same moment."""

from __future__ import annotations

import threading
from pathlib import Path

from edgepeft.utils.temporary import UNFINISHED, release, sweep, temporary_folder


def test_folders_are_made_while_others_sweep(tmp_path: Path) -> None:
    """Several stages of a build begin at once, and each sweeps where it begins."""
    done = threading.Event()

    def sweeping() -> None:
        while not done.is_set():
            sweep(tmp_path)

    sweepers = [threading.Thread(target=sweeping) for _ in range(2)]
    for sweeper in sweepers:
        sweeper.start()
    try:
        made = [temporary_folder(tmp_path, "stage", UNFINISHED) for _ in range(300)]
        assert all(folder.is_dir() for folder in made)
        assert len(set(made)) == 300
    finally:
        done.set()
        for sweeper in sweepers:
            sweeper.join()
    for folder in made:
        release(folder)
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())
