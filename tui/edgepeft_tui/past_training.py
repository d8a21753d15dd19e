"""What a run's training has left on record: its curves, and how many steps it was to make."""

from __future__ import annotations

import contextlib
from pathlib import Path

from edgepeft_tui.progress import CURVES
from edgepeft_tui.run_files import Damaged, is_number, read_json

Curves = dict[str, list[tuple[int, float]]]


def past_training(run: Path) -> tuple[Curves, int | None]:
    """Curves by metric and planned steps, of a finished training or its latest checkpoint; none if damaged."""
    finished = list(run.glob("stages/train-*/history.json"))
    places = finished or list(
        run.glob("scratch/train-*/checkpoints/checkpoint-*/trainer_state.json")
    )
    curves: Curves = {}
    planned: int | None = None
    with contextlib.suppress(OSError, Damaged, ValueError):
        read = read_json(max(places, key=lambda path: path.stat().st_mtime))
        entries = read.get("log_history") if isinstance(read, dict) else read
        steps = read.get("max_steps") if isinstance(read, dict) else None
        planned = int(steps) if is_number(steps) else None
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and is_number(entry.get("step")):
                for key in CURVES.keys() & entry.keys():
                    if is_number(entry[key]):
                        curves.setdefault(key, []).append((int(entry["step"]), float(entry[key])))
    return curves, planned
