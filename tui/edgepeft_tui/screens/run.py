"""A build as it happens: its stages, its curves, its figures, its log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from edgepeft.errors import EdgepeftError
from edgepeft_tui.asking import ask
from edgepeft_tui.gauges import Gauge, gauges_line, gauges_markup, read_gauges
from edgepeft_tui.job import STOPPING, Job
from edgepeft_tui.job_words import figures_markup, stage_estimates, stages_markup
from edgepeft_tui.verdicts import state_words
from edgepeft_tui.widgets.build_log import BuildLog
from edgepeft_tui.widgets.curve import Curve
from edgepeft_tui.widgets.dialogs import Question
from edgepeft_tui.widgets.entry import Entry
from edgepeft_tui.widgets.page import Page, Panel

GAUGE_SECONDS = 3.0
"""How often it is asked how busy the machine is; a driver's tool takes its time."""


class RunScreen(Page):
    """One job. Leaving the screen, or the app, does not touch it."""

    help = (
        "Leaving this screen, or the app, does not stop the build. Stop saves a checkpoint and "
        "ends the build. Resume continues from there."
    )

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="page.back"),
        Binding(
            *("s", "stop", "Stop"),
            id="run.stop",
            tooltip="Save a checkpoint and end; a second time: kill it",
        ),
        Binding("r", "resume", "Resume", id="run.resume", tooltip="Continue an unfinished build"),
        Binding("enter", "result", "Result", id="run.result"),
        Binding(
            *("l", "layers", "Layers"),
            id="run.layers",
            tooltip="Show the quantization error of each layer",
        ),
        Binding("slash", "filter", "Filter log", id="run.filter"),
    ]

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job
        self._drawn: tuple[int, ...] = ()
        self._estimates: dict[str, str] | None = None
        self._gauges: list[Gauge] = []
        self._offered: tuple[str, bool, bool] = ("", False, False)

    @property
    def heading(self) -> str:  # type: ignore[override]
        """Which run, and its state."""
        return f"{self.job.run.name}  ›  {state_words(self.job.state)}"

    def body(self) -> ComposeResult:
        """Stages, gauges, curve, figures, log."""
        with Horizontal(id="run"):
            with Vertical(id="course-left"):
                yield Panel("Stages", id="stages")
                yield Panel("This machine", id="gauges")
            with Vertical(id="course"):
                yield Curve(id="curve")
                yield Panel("Now", id="figures")
        with Vertical(id="talk"):
            yield Entry(placeholder="filter the log", id="log-filter")
            yield BuildLog(id="log")

    def on_mount(self) -> None:
        """Show what there is."""
        self.query_one("#talk").border_title = "Log"
        self.query_one("#log-filter").display = False
        self.query_one("#log").focus()
        self.tick()
        self.watch_machine()

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
        stages = self.query_one("#stages", Panel)
        stages.say(stages_markup(job, stages.content_size.width or 34, self._estimates or {}))
        figures = self.query_one("#figures", Panel)
        # Where there is no room for the curve, a line of blocks stands for it.
        tiny = self.has_class("-tiny")
        figures.say(figures_markup(job, figures.content_size.width if tiny else 0))
        self._show_gauges()
        self._draw()
        self.query_one(BuildLog).show(job.progress.log)
        if self._estimates is None and self._unfinished:
            self._estimates = {}
            self.estimate()
        if (offered := (job.state, job.result is not None, self._rounded)) != self._offered:
            # Making the footer anew is dear; it changes only with what can be done.
            self._offered = offered
            self.refresh_bindings()

    def recolour(self) -> None:
        """The curve and the log in the colours of the theme."""
        self._drawn = ()
        self._draw()
        self.query_one(BuildLog).rewrite()

    @property
    def _unfinished(self) -> bool:
        """Whether stages have not run yet."""
        return any(stage.state == "waiting" for stage in self.job.progress.stages.values())

    @work
    async def estimate(self) -> None:
        """Ask what the stages that have not run yet will take, as the plan of the run's own recipe has it."""
        try:
            facts = await ask("plan", str(self.job.run), folder=Path.cwd())
        except EdgepeftError:
            # Nothing is said beside them then; what is wrong with the run, its log says.
            return
        self._estimates = stage_estimates(facts)
        self.tick()

    @work
    async def watch_machine(self) -> None:
        """Show how busy the machine is while the build is at work; asked in a thread."""
        while True:
            if self.job.active and self.is_current:
                self._gauges = await asyncio.to_thread(read_gauges)
                self._show_gauges()
            await asyncio.sleep(GAUGE_SECONDS)

    def _show_gauges(self) -> None:
        """Bars in a box of their own, or a few words at the edge of another where the screen is low."""
        gauges = self._gauges if self.job.active else []
        low = self.has_class("-low")
        panel = self.query_one("#gauges", Panel)
        panel.display = bool(gauges) and not low
        panel.say(gauges_markup(gauges, panel.content_size.width or 44))
        self.query_one("#figures", Panel).border_subtitle = gauges_line(gauges) if low else ""

    def _draw(self) -> None:
        progress = self.job.progress
        drawn = (progress.planned_steps or 0, *map(len, progress.curves.values()))
        if drawn != self._drawn:
            self._drawn = drawn
            self.query_one(Curve).draw(progress.curves, progress.planned_steps)

    @on(Input.Changed, "#log-filter")
    def _refilter(self, event: Input.Changed) -> None:
        self.query_one(BuildLog).filter(event.value)

    @on(Input.Submitted, "#log-filter")
    def _filtered(self, event: Input.Submitted) -> None:
        self.query_one("#log").focus()

    def action_filter(self) -> None:
        """Type into the filter, or hide it."""
        field = self.query_one("#log-filter", Input)
        field.display = not field.display or not field.has_focus
        if field.display:
            field.focus()
        else:
            field.value = ""
            self.query_one("#log").focus()

    def action_stop(self) -> None:
        """Ask the job to save its state and end; of one that was asked already, offer to kill it."""
        if self.job.state != STOPPING:
            self.job.stop()
            self.tick()
            return
        job = self.job

        def answered(yes: bool | None) -> None:
            if yes:
                job.kill()

        question = (
            f"Kill {job.run.name} now? It is stopping: {job.waits_for()}. Killing it loses "
            "the work since its last checkpoint. Finished stages are kept."
        )
        self.app.push_screen(Question(question, "Kill"), answered)

    def action_resume(self) -> None:
        """Continue the run."""
        if self.wizard_app.resume_run(self.job.run):
            self.job = self.wizard_app.jobs.watch(self.job.run)
            self._drawn, self._estimates = (), None
            self.tick()

    def action_layers(self) -> None:
        """Show the quantization error of each layer, also of a run that is not done."""
        from edgepeft_tui.layers import NO_LAYERS, layers_of
        from edgepeft_tui.screens.layers import LayersScreen

        if layers_of(self.job.run):
            self.app.push_screen(LayersScreen(self.job))
        else:
            self.notify(NO_LAYERS)

    def action_result(self) -> None:
        """Show what was built."""
        self.wizard_app.open(f"result:{self.job.run}")
