"""What bundles were measured at, sent to the run that has their training's curves."""

from __future__ import annotations

from pathlib import Path

from edgepeft.stages.job import Job, StageResult, StageSettings
from edgepeft.tracking.runs import open_runs


class FiguresSettings(StageSettings):
    """``folder`` is that of the training's trackers, and ``title`` names a run that has to be opened."""

    trackers: tuple[str, ...]
    title: str
    folder: Path
    figures: dict[str, float]


class FiguresResult(StageResult):
    """Which trackers took the figures."""

    sent: tuple[str, ...]


def run(job: Job[FiguresSettings]) -> FiguresResult:
    """Stage function, carried out after every other and kept by nobody. Raises EdgepeftError."""
    settings = job.settings
    sent: list[str] = []
    with open_runs(
        settings.trackers, settings.title, settings.folder, job.events, anew=False
    ) as runs:
        sent = runs.each(lambda tracker: tracker.log(settings.figures), "logging the figures")
    return FiguresResult(sent=tuple(sent))
