"""A build as it happens: its stages, its curves, its figures, its log."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, RichLog

from edgepeft_tui.job import STOPPING, Job
from edgepeft_tui.job_words import figures_markup, stages_markup
from edgepeft_tui.plain_text import visible
from edgepeft_tui.verdicts import state_words
from edgepeft_tui.widgets.curve import Curve
from edgepeft_tui.widgets.dialogs import Question
from edgepeft_tui.widgets.entry import Entry
from edgepeft_tui.widgets.page import Page, Panel

_LOG_COLOURS = {"warning": "text-warning", "error": "text-error"}


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
        self._written = 0
        self._wanted = ""
        self._drawn: tuple[int, ...] = ()
        self._offered: tuple[str, bool, bool] = ("", False, False)

    @property
    def heading(self) -> str:  # type: ignore[override]
        """Which run, and its state."""
        return f"{self.job.run.name}  ›  {state_words(self.job.state)}"

    def body(self) -> ComposeResult:
        """Stages, curve, figures, log."""
        with Horizontal(id="run"):
            yield Panel("Stages", id="stages")
            with Vertical(id="course"):
                yield Curve(id="curve")
                yield Panel("Now", id="figures")
        with Vertical(id="talk"):
            yield Entry(placeholder="filter the log", id="log-filter")
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
        stages = self.query_one("#stages", Panel)
        stages.say(stages_markup(job, stages.content_size.width or 40))
        self.query_one("#figures", Panel).say(figures_markup(job))
        self._draw()
        self._write_log()
        if (offered := (job.state, job.result is not None, self._rounded)) != self._offered:
            # Making the footer anew is dear; it changes only with what can be done.
            self._offered = offered
            self.refresh_bindings()

    def recolour(self) -> None:
        """The curve and the log in the colours of the theme."""
        self._drawn = ()
        self._draw()
        self._rewrite_log()

    def _draw(self) -> None:
        progress = self.job.progress
        drawn = (progress.planned_steps or 0, *map(len, progress.curves.values()))
        if drawn != self._drawn:
            self._drawn = drawn
            self.query_one(Curve).draw(progress.curves, progress.planned_steps)

    def _rewrite_log(self) -> None:
        self.query_one(RichLog).clear()
        self._written = 0
        self._write_log()

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
            style = colours.get(_LOG_COLOURS.get(kind, ""), "")
            sign = {"warning": "! ", "error": "✗ "}.get(kind, "")
            said = (f"{sign}{visible(text)}", style)
            lines.append(Text.assemble((f"{clock} ", colours["muted"]), said))
        if lines:
            log.write(Text("\n").join(lines))
        self._written = len(entries)

    @on(Input.Changed, "#log-filter")
    def _refilter(self, event: Input.Changed) -> None:
        self._wanted = event.value.lower()
        self._rewrite_log()

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
            self._written, self._drawn = 0, ()
            self.query_one(RichLog).clear()
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
