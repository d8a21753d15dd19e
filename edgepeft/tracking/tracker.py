"""What an experiment tracker does for a training, and the trackers there are."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from edgepeft.errors import MissingError
from edgepeft.stages.needs import require_libraries

PROJECT = "edgepeft"
"""The project, or experiment, that runs go into unless the tracker's own environment variable names another."""


class Tracker(Protocol):
    """One run of a tracker, open from ``begin`` to ``end``.

    What goes where, and who is logged in, is the tracker's own affair: its environment variables and files hold.
    """

    MEND: str
    """What to do where a run can't be opened, in a few words."""

    def begin(self, name: str, folder: Path, known: str | None) -> str:
        """Open the run ``known``, or a new one called ``name``; its id. ``folder`` is for files that stay here.

        Raises whatever the library raises.
        """
        ...

    def place(self) -> str:
        """Where a person looks at the open run: an address, or a folder."""
        ...

    def callback(self) -> Any:
        """A transformers.TrainerCallback that logs a training to the open run."""
        ...

    def log(self, figures: Mapping[str, float]) -> None:
        """Add figures of the finished model to the open run."""
        ...

    def end(self, *, whole: bool) -> None:
        """Close the run and send what is left; ``whole`` unless what it follows was stopped or failed."""
        ...


TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
"""Each is also the name of its library, of its extra and of its module here."""


def open_tracker(name: str) -> Tracker:
    """A tracker by its name in a recipe, without a run yet."""
    found: Tracker = importlib.import_module(f"edgepeft.tracking.{name}").make()
    return found


def require_trackers(names: Iterable[str]) -> None:
    """Raise MissingError, naming what to install, unless the libraries of ``names`` are there."""
    try:
        require_libraries({name: (name,)} for name in names)
    except MissingError as error:
        raise MissingError(f"training.report_to: {error}") from None
