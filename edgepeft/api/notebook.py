"""A build's progress where a notebook shows output."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edgepeft.events import Event, Sink
from edgepeft.pipeline.event_words import headline
from edgepeft.utils.terminal_text import visible_line

_TOLD = ("finished", "reused", "failed", "warning")


def in_notebook() -> bool:
    """Whether a kernel runs this code, as Jupyter's and Colab's do; IPython in a terminal is none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def notebook_progress() -> Iterator[Sink]:
    """A sink that draws one bar for the stage at work and a line for each that is done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    # rich finds the notebook itself, and draws with ipywidgets where they are installed.
    console = Console()
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}", markup=False),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    shown: dict[str, TaskID] = {}

    def show(event: Event) -> None:
        stage, kind = visible_line(event["stage"]), event["event"]
        if kind == "progress":
            if stage not in shown:
                shown[stage] = bars.add_task(stage, total=event.get("total"))
            bars.update(shown[stage], completed=event["step"], total=event.get("total"))
        elif kind in ("finished", "failed") and stage in shown:
            bars.remove_task(shown.pop(stage))
        line = headline(event) if kind in _TOLD else None
        if line is not None:
            console.print(line, markup=False)

    with bars:
        yield show
