"""A build as it happens: its stages, its curves, its figures, its log."""

from __future__ import annotations

import time
from datetime import datetime
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, RichLog

from edgepeft.cli.progress import duration
from edgepeft.cli.tables import megabytes
from edgepeft_tui.jobs import Job
from edgepeft_tui.progress import StageView
from edgepeft_tui.widgets.curve import Curve
from edgepeft_tui.widgets.page import Page, Panel
from edgepeft_tui.words import HANG, mark, marked, near, plain

_LOG_COLOURS = {"warning": "$text-warning", "error": "$text-error"}


class RunScreen(Page):
    """One job. Leaving the screen, or the app, does not touch it."""

    help = (
        "Leaving this screen, or the app, does not touch the build. Stop saves a checkpoint; "
        "Resume goes on from it."
    )

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="page.back"),
        Binding("s", "stop", "Stop", id="run.stop", tooltip="Save a checkpoint and end"),
        Binding("r", "resume", "Resume", id="run.resume", tooltip="Go on from what is finished"),
        Binding("enter", "result", "Result", id="run.result"),
        Binding(
            "l", "layers", "Layers", id="run.layers", tooltip="What rounding does to each layer"
        ),
        Binding("slash", "filter", "Filter log", id="run.filter"),
    ]

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job
        self._written = 0
        self._wanted = ""
        self._drawn: tuple[int, ...] = ()
        self._offered: tuple[str, bool, bool] = ("", False, False)

    @property
    def heading(self) -> str:  # type: ignore[override]
        """Which run, and how it stands."""
        return f"{self.job.run.name}  ›  {self.job.state}"

    def body(self) -> ComposeResult:
        """Stages, curve, figures, log."""
        with Horizontal(id="run"):
            yield Panel("Stages", id="stages")
            with Vertical(id="course"):
                yield Curve(id="curve")
                yield Panel("Now", id="figures")
        with Vertical(id="talk"):
            yield Input(placeholder="filter the log", compact=True, id="log-filter")
            yield RichLog(id="log", wrap=True, markup=False, max_lines=5000)

    def on_mount(self) -> None:
        """Show what there is."""
        self.query_one("#talk").border_title = "Log"
        self.query_one("#log-filter").display = False
        self.query_one("#log").focus()
        self.tick()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer only what can be done as things stand."""
        match action:
            case "stop":
                return self.job.active
            case "resume":
                return not self.job.active and self.job.state not in ("done", "unknown")
            case "result":
                return self.job.result is not None
            case "layers":
                return self._rounded
        return True

    @property
    def _rounded(self) -> bool:
        """Whether a stage that may have measured layers is finished."""
        return any(
            name.startswith("quantize") and stage.state in ("done", "reused")
            for name, stage in self.job.progress.stages.items()
        )

    def tick(self) -> None:
        """Show what is new."""
        job = self.job
        if not job.active:
            job.refresh()
        self.show_where()
        self.query_one("#stages", Panel).say(self._stages())
        self.query_one("#figures", Panel).say(self._figures())
        points = tuple(len(points) for points in job.progress.curves.values())
        if points != self._drawn:
            self._drawn = points
            self.query_one(Curve).draw(job.progress.curves)
        self._write_log()
        if (offered := (job.state, job.result is not None, self._rounded)) != self._offered:
            # Making the footer anew is dear; it changes only with what can be done.
            self._offered = offered
            self.refresh_bindings()

    def _stages(self) -> str:
        stages = self.job.progress.stages.values()
        if not stages:
            return self._no_stages()
        # Where the box is narrow a long name gives way: a stage's time is what one looks for.
        room = self.query_one("#stages").content_size.width or 40
        memory = room >= _ROOM_FOR_MEMORY
        figures = [_how_far(stage, memory=memory) for stage in stages]
        wide = max(map(len, figures))
        width = min(max(len(stage.name) for stage in stages), max(8, room - wide - 4))
        lines = []
        for stage, figure in zip(stages, figures, strict=True):
            name = stage.name if len(stage.name) <= width else f"{stage.name[: width - 1]}…"
            shade = figure if stage.state == "running" else f"[$foreground 60%]{figure}[/]"
            lines.append(f"{mark(stage.state)} {name:<{width}}  {shade}")
        return "\n".join(lines)

    def _no_stages(self) -> str:
        if self.job.active:
            return "[$foreground 60%]checking the recipe …[/]"
        return f"{mark(self.job.state)} {plain(self.job.state)}"

    def _figures(self) -> str:
        job, progress = self.job, self.job.progress
        stage = progress.running()
        lines = []
        if job.error():
            lines.append(f"[$text-error]✗ {HANG}{plain(job.error())}[/]")
            lines.append(f"[$foreground 60%]log[/] {HANG}{plain(near(job.log))}")
        elif stage is not None:
            step = f"{stage.step} of {stage.total}" if stage.total else "begins"
            left = stage.left()
            ending = f", about {duration(left)} left" if left is not None else ""
            lines.append(f"[b]{stage.name}[/b]  {step}{ending}")
            if stage.total:
                lines.append(_bar(stage.step / stage.total, 30))
        else:
            lines.append(marked(job.state, plain(_ENDINGS.get(job.state, job.state))))
        figures = []
        for key, label, form in _FIGURES:
            if key in progress.figures:
                value = form.format(progress.figures[key])
                figures.append(_figure(label, value))
        memory = job.memory_bytes()
        if memory:
            figures.append(_figure("memory", megabytes(memory)))
        if progress.began is not None:
            until = time.time() if job.active else progress.latest or progress.began
            figures.append(_figure("elapsed", duration(until - progress.began)))
        lines.append("   ".join(figures))
        return "\n".join(lines)

    def _write_log(self) -> None:
        log, entries = self.query_one(RichLog), self.job.progress.log
        if self._written > len(entries):
            log.clear()
            self._written = 0
        from rich.text import Text

        colours = self.app.theme_variables
        lines = []
        for moment, kind, text in entries[self._written :]:
            clock = datetime.fromtimestamp(moment).strftime("%H:%M:%S")
            if self._wanted and self._wanted not in f"{kind} {text}".lower():
                continue
            colour = colours.get(_LOG_COLOURS.get(kind, "").removeprefix("$"), "")
            sign = {"warning": "! ", "error": "✗ "}.get(kind, "")
            style = colour if colour.startswith("#") else ""
            lines.append(Text.assemble((f"{clock} ", "dim"), (f"{sign}{text}", style)))
        if lines:
            log.write(Text("\n").join(lines))
        self._written = len(entries)

    @on(Input.Changed, "#log-filter")
    def _refilter(self, event: Input.Changed) -> None:
        self._wanted = event.value.lower()
        self.query_one(RichLog).clear()
        self._written = 0
        self._write_log()

    @on(Input.Submitted, "#log-filter")
    def _filtered(self, event: Input.Submitted) -> None:
        self.query_one("#log").focus()

    def action_filter(self) -> None:
        """Type into the filter, or put it away."""
        field = self.query_one("#log-filter", Input)
        field.display = not field.display or not field.has_focus
        if field.display:
            field.focus()
        else:
            field.value = ""
            self.query_one("#log").focus()

    def action_stop(self) -> None:
        """Ask the job to save its state and end."""
        self.job.stop()
        self.notify("saving a checkpoint and stopping …")

    def action_resume(self) -> None:
        """Go on with the run."""
        if self.wizard_app.resume_run(self.job.run):
            self.job = self.wizard_app.jobs.watch(self.job.run)
            self._written, self._drawn = 0, ()
            self.query_one(RichLog).clear()
            self.tick()

    def action_layers(self) -> None:
        """Show what rounding does to each layer, of a run that is not done as well."""
        from edgepeft_tui.layers import layers_of
        from edgepeft_tui.screens.layers import LayersScreen

        if layers_of(self.job.run):
            self.app.push_screen(LayersScreen(self.job))
        else:
            self.notify("only calibrated rounding (gptq) measures layers; this run has none")

    def action_result(self) -> None:
        """Show what was built."""
        self.wizard_app.open(f"result:{self.job.run}")


_FIGURES = (
    ("loss", "loss", "{:.4f}"),
    ("eval_loss", "eval", "{:.4f}"),
    ("learning_rate", "lr", "{:.2e}"),
    ("tokens_per_second", "tok/s", "{:.0f}"),
)

_ENDINGS = {
    "starting": "starting",
    "running": "between stages",
    "done": "done: Enter shows the result",
    "gate missed": "a gate was missed: Enter shows which",
    "interrupted": "stopped; r goes on from here",
    "unknown": "no run is on record in this folder",
    "killed": "its process is gone; r goes on from what is finished",
}


_ROOM_FOR_MEMORY = 42
"""Cells that name, time and memory of a stage take side by side."""


def _how_far(stage: StageView, *, memory: bool) -> str:
    match stage.state:
        case "running":
            return f"{stage.step}/{stage.total}" if stage.total else "…"
        case "done":
            used = f"  {megabytes(stage.memory_bytes):>8}" if memory else ""
            return f"{duration(stage.seconds):>12}{used}"
        case "waiting":
            return ""
        case _:
            return stage.state


def _figure(label: str, value: str) -> str:
    """A figure that stays with its name and its unit where a line wraps."""
    kept = value.replace(" ", "\u00a0")
    return f"[$foreground 60%]{label}[/]\u00a0{kept}"


def _bar(share: float, width: int) -> str:
    full = round(share * width)
    return f"[$primary]{'━' * full}[/][$text-disabled]{'─' * (width - full)}[/] {100 * share:.0f} %"
