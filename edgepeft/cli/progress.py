"""Showing events: a live line on a terminal, plain lines in a log, JSON lines for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgepeft.cli.options import ProgressMode
from edgepeft.events import Event, Events, Sink, discard
from edgepeft.pipeline.event_words import describe_progress, headline, time_left
from edgepeft.utils.hub_progress import told_in_lines
from edgepeft.utils.quantities import duration
from edgepeft.utils.terminal_text import VisibleStream

_PLAIN_INTERVAL = 15.0
"""Seconds between progress lines where nobody watches live."""


@contextmanager
def show_events(mode: ProgressMode) -> Iterator[Sink]:
    """A sink that shows events as ``mode`` says, for as long as the context lasts."""
    if mode is ProgressMode.none:
        with told_in_lines(lambda line: None):
            yield discard
    elif mode is ProgressMode.jsonl:

        def show(event: Event) -> None:
            print(json.dumps(event), file=sys.stderr, flush=True)

        with told_in_lines(Events("hub", show).message):
            yield show
    elif sys.stderr.isatty():
        with _Live() as live:
            yield live.show
    else:
        yield _Plain().show


class _Plain:
    """Lines for a log file or a pipe."""

    def __init__(self) -> None:
        self._last = 0.0

    def show(self, event: Event) -> None:
        line = headline(event)
        now = time.monotonic()
        if line is None and event["event"] == "progress" and now - self._last > _PLAIN_INTERVAL:
            self._last = now
            left = time_left(event)
            ending = f"  {duration(left)} left" if left is not None else ""
            line = f"  {event['stage']} {event['step']}/{event['total']}  {describe_progress(event)}{ending}"
        if line is not None:
            print(line, file=sys.stderr, flush=True)


class _Live:
    """A progress bar for each stage at work, below the lines of finished ones."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        from edgepeft.cli.console import console

        self._console = console(stderr=True)
        self._progress = Progress(
            TextColumn("  {task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.completed}/{task.total}  {task.fields[note]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._bars: dict[str, Any] = {}
        self._figures: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> _Live:
        self._progress.start()
        # What others print meanwhile goes above the bars, and rich would obey the escape sequences in it.
        sys.stdout = VisibleStream(sys.stdout, "standard output")
        sys.stderr = VisibleStream(sys.stderr, "standard error", dispensable=True)
        return self

    def __exit__(self, *details: object) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        kind = event["event"]
        if kind == "progress":
            self._advance(event)
            return
        stage = event["stage"]
        if kind in ("finished", "failed", "started") and stage in self._bars:
            self._progress.remove_task(self._bars.pop(stage))
        if kind == "started":
            self._figures[stage] = {}
            self._bar(stage)
            return
        line = headline(event)
        if line is not None:
            colour = {"✓": "green", "!": "yellow", "✗": "red"}.get(line[0], "")
            self._console.print(line, style=colour, markup=False)

    def _bar(self, stage: str) -> Any:
        if stage not in self._bars:
            self._bars[stage] = self._progress.add_task(stage, total=None, note="")
        return self._bars[stage]

    def _advance(self, event: Event) -> None:
        # Evaluation and training send different figures; the last of each stays in view.
        figures = self._figures.setdefault(event["stage"], {})
        figures.update(event.get("metrics", {}))
        left = time_left(event)
        note = describe_progress({**event, "metrics": figures})
        if left is not None:
            note += f"  {duration(left)} left"
        bar = self._bar(event["stage"])
        self._progress.update(bar, completed=event["step"], total=event["total"], note=note)
