"""A build in words and figures: its stages, and what it is about now."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from edgepeft.utils.quantities import duration, megabytes
from edgepeft_tui.job import STOPPING, Job
from edgepeft_tui.plain_text import cut, plain, plain_line, visible_line
from edgepeft_tui.progress import StageView
from edgepeft_tui.verdicts import run_verdict, state_words
from edgepeft_tui.words import HANG, mark, marked, meter, near, sparkline

_ENDINGS = {
    "starting": "starting",
    "running": "running: starting the next stage",
    "interrupted": "stopped, can be resumed: press r",
    "unknown": "this folder has no record of a run",
    "killed": "killed, can be resumed: press r",
}
_FIGURES = (
    ("loss", "loss", "{:.4f}"),
    ("eval_loss", "eval", "{:.4f}"),
    ("learning_rate", "lr", "{:.2e}"),
    ("tokens_per_second", "tok/s", "{:.0f}"),
)
_ROOM_FOR_MEMORY = 42
"""Cells that name, time and memory of a stage take side by side."""
_BAR = 30


def stage_estimates(facts: Any) -> dict[str, str]:
    """What a plan in JSON says of the time of each stage; a plan of another form says nothing."""
    listed = facts.get("stages") if isinstance(facts, dict) else None
    found = {}
    for stage in listed if isinstance(listed, list) else ():
        with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
            said = "reused" if stage["reused"] else f"~ {duration(stage['seconds'])}"
            found[str(stage["stage"])] = said
    return found


def stages_markup(job: Job, room: int, estimates: Mapping[str, str] = {}) -> str:
    """A line for each stage, in ``room`` cells; one that has not run yet with what its plan estimates."""
    stages = job.progress.stages.values()
    if not stages:
        if job.active:
            return "[$muted]checking the recipe …[/]"
        return f"{mark(job.state)} {plain_line(state_words(job.state))}"
    # Where the box is narrow a long name gives way: a stage's time is what one looks for.
    roomy = room >= _ROOM_FOR_MEMORY
    figures = [_how_far(stage, estimates.get(stage.name, ""), memory=roomy) for stage in stages]
    names = [visible_line(stage.name) for stage in stages]
    width = min(max(map(len, names)), max(8, room - max(map(len, figures)) - 4))
    lines = []
    for stage, name, figure in zip(stages, names, figures, strict=True):
        short = cut(name, width)
        shade = figure if stage.state == "running" else f"[$muted]{figure}[/]"
        lines.append(f"{mark(stage.state)} {plain(f'{short:<{width}}')}  {shade}")
    return "\n".join(lines)


def figures_markup(job: Job, loss_room: int = 0) -> str:
    """What a build is about, or how it ended, its latest figures, and its loss in ``loss_room`` cells, if any."""
    lines = [*_now(job), "   ".join(_latest(job))]
    losses = [loss for _, loss in job.progress.curves.get("loss", ())]
    if loss_room and len(losses) > 1:
        lines.append(f"[$muted]loss[/] [$bar]{sparkline(losses, loss_room - 5)}[/]")
    return "\n".join(lines)


def _now(job: Job) -> list[str]:
    if said := job.error():
        killed = [marked("killed", _ENDINGS["killed"])] if job.state == "killed" else []
        return [
            *killed,
            f"[$text-error]✗ {HANG}{plain_line(said)}[/]",
            f"[$muted]log[/] {HANG}{plain_line(near(job.log))}",
        ]
    if job.state == STOPPING:
        return [
            marked(STOPPING, plain_line(f"stopping: {job.waits_for()}")),
            "  [$muted]press s again to kill it[/]",
        ]
    stage = job.progress.running()
    if stage is not None:
        step = f"step {stage.step} of {stage.total}" if stage.total else "starting"
        left = stage.left()
        ending = f", about {duration(left)} left" if left is not None else ""
        line = f"[b]{plain_line(stage.name)}[/b]  {step}{ending}"
        if not stage.total:
            return [line]
        share = stage.step / stage.total
        return [line, f"{meter(share, _BAR)} {100 * share:.0f} %"]
    if job.result is not None:
        state, words = run_verdict(job.record)
        return [marked(state, plain_line(f"{words}; Enter shows the result"))]
    return [marked(job.state, plain_line(_ENDINGS.get(job.state, job.state)))]


def _latest(job: Job) -> list[str]:
    progress = job.progress
    figures = [
        _figure(label, form.format(progress.figures[key]))
        for key, label, form in _FIGURES
        if key in progress.figures
    ]
    if memory := job.memory_bytes():
        figures.append(_figure("memory", megabytes(memory)))
    if progress.began is not None:
        until = time.time() if job.active else progress.latest or progress.began
        figures.append(_figure("elapsed", duration(max(0.0, until - progress.began))))
    return figures


def _how_far(stage: StageView, estimate: str, *, memory: bool) -> str:
    match stage.state:
        case "running":
            return f"{stage.step}/{stage.total}" if stage.total else "…"
        case "done":
            used = f"  {megabytes(stage.memory_bytes):>8}" if memory else ""
            return f"{duration(stage.seconds):>12}{used}"
        case "waiting":
            return f"{estimate:>12}" if estimate else ""
        case _:
            return stage.state


def _figure(label: str, value: str) -> str:
    """A figure that stays with its name and its unit where a line wraps."""
    kept = value.replace(" ", "\u00a0")
    return f"[$muted]{label}[/]\u00a0{kept}"
