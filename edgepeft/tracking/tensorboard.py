"""TensorBoard: event files in a folder, for ``tensorboard --logdir``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepeft.tracking.tracker import Tracker


class _TensorBoard:
    MEND = "choose another folder with TENSORBOARD_LOGGING_DIR"

    def begin(self, name: str, folder: Path, known: str | None) -> str:
        from torch.utils.tensorboard import SummaryWriter

        own = os.environ.get("TENSORBOARD_LOGGING_DIR")
        # Its id is its folder, which a folder of the user's shares with runs of the same name.
        place = Path(own).expanduser().absolute() / folder.name if own else folder / "tensorboard"
        if known is None:
            shutil.rmtree(place, ignore_errors=True)
        else:
            place = Path(known)
        self._place = place
        self._writer = SummaryWriter(log_dir=str(place))
        return str(place)

    def place(self) -> str:
        return str(self._place)

    def callback(self) -> Any:
        from transformers.integrations import TensorBoardCallback

        return TensorBoardCallback(self._writer)

    def log(self, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, 0)

    def end(self, *, whole: bool) -> None:
        self._writer.close()


def make() -> Tracker:
    """A tracker without a run."""
    return _TensorBoard()
