"""The runs of one training in every tracker that it reports to, and which they are."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgepeft.errors import EdgepeftError, one_line
from edgepeft.events import Events
from edgepeft.tracking.tracker import Tracker, open_tracker
from edgepeft.utils.files import read_json_object
from edgepeft.utils.whole_files import write_json

_KNOWN = "runs.json"
"""In a training's folder for its trackers: the id of each one's run, where to look at it, what figures it has."""


class OpenRuns:
    """The open runs of some trackers. One that fails gets no more, with a warning, and the work goes on."""

    def __init__(self, trackers: Mapping[str, Tracker], events: Events) -> None:
        self._trackers = dict(trackers)
        self._events = events

    def each(self, act: Callable[[Tracker], object], doing: str) -> list[str]:
        """Have every tracker do something; the names of those that did."""
        done = []
        for name, tracker in list(self._trackers.items()):
            try:
                act(tracker)
            except Exception as error:  # each library has exceptions of its own
                self._events.warning(f"{name}: {doing} failed ({_why(error)}); it gets no more")
                del self._trackers[name]
            else:
                done.append(name)
        return done

    def callbacks(self) -> dict[str, Any]:
        """Each tracker's callback of a transformers.Trainer, by its name."""
        return {name: tracker.callback() for name, tracker in self._trackers.items()}

    def drop(self, name: str, error: Exception) -> None:
        """Go on without a tracker whose callback failed."""
        if self._trackers.pop(name, None) is not None:
            self._events.warning(f"{name}: gets no more of the training ({_why(error)})")


@contextmanager
def open_runs(
    names: Sequence[str], title: str, folder: Path, events: Events, *, anew: bool
) -> Iterator[OpenRuns]:
    """Open a run of each tracker, or with ``anew`` a new one in its place, and close them in the end.

    ``folder`` keeps which they are. Raises EdgepeftError for a run that can't be opened.
    """
    known = {} if anew else read_runs(folder)
    trackers: dict[str, Tracker] = {}
    whole = False
    try:
        for name in names:
            tracker = open_tracker(name)
            folder.mkdir(parents=True, exist_ok=True)
            before = known.get(name)
            try:
                began = tracker.begin(title, folder, before["id"] if before else None)
                trackers[name] = tracker
                known[name] = {**(before or {}), "id": began, "place": tracker.place()}
            except Exception as error:  # each library has exceptions of its own
                raise EdgepeftError(
                    f"training.report_to: {name}: no run could be opened ({_why(error)}); {tracker.MEND}, or "
                    f"take {name} out of training.report_to"
                ) from error
            if before is None:
                events.message(f"{name}: {known[name]['place']}")
        if names:
            write_json(folder / _KNOWN, known)
        yield OpenRuns(trackers, events)
        whole = True
    finally:
        OpenRuns(trackers, events).each(lambda tracker: tracker.end(whole=whole), "closing its run")


def read_runs(folder: Path) -> dict[str, dict[str, Any]]:
    """By tracker, the ``id`` and ``place`` of the run that was opened last; empty where none was."""
    try:
        return read_json_object(folder / _KNOWN, own=True)
    except (OSError, EdgepeftError):
        return {}


def told(runs: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, float]:
    """The figures that a tracker's run has, out of what ``read_runs`` found."""
    figures: dict[str, float] = runs.get(name, {}).get("figures", {})
    return figures


def note_figures(folder: Path, names: Iterable[str], figures: Mapping[str, float]) -> None:
    """Remember that the runs of some trackers have these figures; a run in their place has none."""
    runs = read_runs(folder)
    for name in names:
        runs[name]["figures"] = told(runs, name) | dict(figures)
    write_json(folder / _KNOWN, runs)


def _why(error: Exception) -> str:
    return textwrap.shorten(one_line(error), 200, placeholder=" …") or type(error).__name__
