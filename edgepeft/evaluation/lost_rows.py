"""The test rows that a bundle loses: the reference answers them right, and the bundle does not.

The verify stage leaves all of them in a file of its folder, one JSON object each. The bundle itself holds none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from edgepeft.evaluation.measures import WrongAnswer
from edgepeft.utils.whole_files import write_json

LOST = "lost.json"


def write_lost(folder: Path, rows: Sequence[WrongAnswer]) -> None:
    """Leave the lost rows, in the order of their file, in the folder of a verify stage."""
    write_json(folder / LOST, [row.as_dict() for row in rows])


def read_lost(folder: Path) -> list[WrongAnswer]:
    """The lost rows of a finished verify stage."""
    written = json.loads((folder / LOST).read_text(encoding="utf-8"))
    return [WrongAnswer.model_validate(row) for row in written]
