"""The wizard: six steps to a recipe, walked in any order, checked as one types by what a build would check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.timer import Timer
from textual.widgets import ContentSwitcher, OptionList, Static
from textual.widgets.option_list import Option

from edgepeft.errors import EdgepeftError
from edgepeft_tui.asking import ask
from edgepeft_tui.draft import Draft
from edgepeft_tui.draft_files import replaces, save
from edgepeft_tui.field_help import help_line, help_text, row_of
from edgepeft_tui.hints import hints
from edgepeft_tui.plain_text import plain
from edgepeft_tui.raw_recipe import STEPS, step_of
from edgepeft_tui.step_marks import Mark, marks_of, note_plan, on_rail
from edgepeft_tui.steps.base import Step
from edgepeft_tui.steps.walk import STEP_KINDS, step_id
from edgepeft_tui.widgets.dialogs import HelpWindow, Question
from edgepeft_tui.widgets.field_row import FieldRow
from edgepeft_tui.widgets.page import Page, Panel
from edgepeft_tui.words import estimate_lines, near, pairs

PAUSE = 0.5
"""Seconds without a key press after which the recipe is planned anew."""

_STEP_KEYS = Binding.Group("Steps", compact=True)


class WizardScreen(Page):
    """A recipe in the making. What was changed is kept as a draft, which outlives this screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Home", id="page.back"),
        # One word for both, so that every key finds room in 80 columns.
        Binding("ctrl+n", "walk(1)", "Next", id="wizard.next", group=_STEP_KEYS),
        Binding("ctrl+b", "walk(-1)", "Prev", id="wizard.before", group=_STEP_KEYS),
        Binding(
            *("f4", "advanced", "All options"),
            id="wizard.advanced",
            tooltip="Show every option of the recipe, or the few that matter at first",
        ),
        Binding("ctrl+s", "save", "Save", id="wizard.save"),
        Binding("ctrl+r", "run", "Run", id="wizard.run"),
        Binding("f1", "help", "Help", id="wizard.help"),
    ]

    AUTO_FOCUS = ""

    def __init__(self, draft: Draft, step: str = STEPS[0]) -> None:
        super().__init__()
        self.draft = draft
        self.step = step
        self.facts: dict[str, Any] | None = None
        self.advanced = False
        self._pending: Timer | None = None
        self._marks: dict[str, Mark] = {}
        self.opening = True

    @property
    def heading(self) -> str:  # type: ignore[override]
        """Which recipe, and which step."""
        return f"{self.draft.name}  ›  {self.step}"

    def body(self) -> ComposeResult:
        """Rail, steps, the estimate where there is room, and a line of help."""
        with Horizontal(id="wizard"):
            marks = {step: Mark("open", "") for step in STEPS}
            options = [Option(on_rail(step, marks[step]), step) for step in STEPS]
            yield OptionList(*options, id="rail", compact=True)
            with ContentSwitcher(id="steps", initial=step_id(self.step)):
                for name, kind in STEP_KINDS.items():
                    yield kind(self.draft, id=step_id(name))
            with Vertical(id="aside"):
                yield Panel("Estimate", id="estimate", classes="estimate")
        yield Static("", id="help")

    def on_mount(self) -> None:
        """Start in the step."""
        self.show_step(self.step)
        self.changed(pause=0.05)

    # -- walking ------------------------------------------------------------------------------------------

    def show_step(self, name: str, *, begin: bool = True, anew: bool = False) -> None:
        """Show a step, made ``anew`` if its fields are others now, and ``begin`` in it."""
        self.step = name
        self.draft.opened.add(name)
        self.draft.step = name
        self.wizard_app.drafts.keep(self.draft)
        self.query_one("#steps", ContentSwitcher).current = step_id(name)
        self.query_one("#rail", OptionList).highlighted = STEPS.index(name)
        self.show_where()
        self.opening = begin
        if anew:
            self.current.opened = False
        self._open_step(self.current, begin)

    @work(exclusive=True, group="walk")
    async def _open_step(self, step: Step, begin: bool) -> None:
        await step.open()
        if step.ready:
            step.enter()
            if self.facts is not None:
                step.planned(self.facts)
            self.show_errors()
        if begin:
            step.begin()
        else:
            self.begun()

    def begun(self) -> None:
        """The step that was opened asked for the focus, by a message to the app that this one follows."""
        self.app.call_later(self.wizard_app.opened, self)

    @property
    def current(self) -> Step:
        """The step that is shown."""
        return self.query_one(f"#{step_id(self.step)}", Step)

    def action_walk(self, by: int) -> None:
        """Go to the next step, or the one before."""
        at = STEPS.index(self.step) + by
        if 0 <= at < len(STEPS):
            self.show_step(STEPS[at])

    @on(OptionList.OptionHighlighted, "#rail")
    def _walk_rail(self, event: OptionList.OptionHighlighted) -> None:
        """The rail shows a step at once; Enter goes into it."""
        name = str(event.option_id)
        rail = self.query_one("#rail", OptionList)
        current = rail.highlighted is not None and STEPS[rail.highlighted] == name
        if name != self.step and current and rail.has_focus:
            self.show_step(name, begin=False)

    @on(OptionList.OptionSelected, "#rail")
    def _enter_step(self, event: OptionList.OptionSelected) -> None:
        self.show_step(str(event.option_id))

    # -- changes ------------------------------------------------------------------------------------------

    def on_field_row_changed(self, event: FieldRow.Changed) -> None:
        """Put what was typed into the draft."""
        self.draft.set_text(event.row.field, event.text)
        self.changed()
        # A message comes to the step before it comes here, so the step is told once the draft is another.
        for step in event.row.ancestors:
            if isinstance(step, Step) and step.ready:
                step.typed(event.row.field.key)

    def changed(self, pause: float = PAUSE) -> None:
        """The draft is another: say what is wrong, keep it, and plan it once the keys rest."""
        self.show_errors()
        self.wizard_app.drafts.keep(self.draft)
        if self._pending is not None:
            self._pending.stop()
        self._pending = self.set_timer(pause, self.plan)

    def show_errors(self) -> None:
        """Marks on the rail, and each error at its field."""
        if not self.display:  # it is being left, and its widgets go before it does
            return
        errors = self.draft.errors()
        marks = marks_of(self.draft, errors)
        if marks != self._marks:
            self._marks = marks
            rail = self.query_one("#rail", OptionList)
            for index, step in enumerate(STEPS):
                rail.replace_option_prompt_at_index(index, on_rail(step, marks[step]))
        hinted = hints(self.draft, self.facts)
        for row in self.query(FieldRow):
            row.complain(errors.get(row.field.key, ""))
            row.hint(hinted.get(row.field.key, ""))
        for pane in self.query(Step):
            if pane.ready:
                pane.show_errors(errors)

    @work(exclusive=True, group="plan")
    async def plan(self) -> None:
        """Ask what the recipe would do and cost; whatever a build would refuse is refused here."""
        draft = self.draft
        if draft.problems() or draft.name_error():
            self._say_estimate("Shown once the recipe has no errors.")
            return
        before = draft.yaml()
        if self.facts is None:
            self._say_estimate("estimating …")
        try:
            facts = await ask(
                "plan", "-", "--out", str(draft.run), folder=draft.folder, text=before
            )
        except EdgepeftError as error:
            if draft.yaml() != before:
                return
            draft.note_failure(str(error))
            self._say_estimate("Shown once the recipe has no errors.")
        else:
            if draft.yaml() != before:
                return
            fits = facts["peak_memory_bytes"] < facts["free_memory_bytes"]
            note_plan(draft, facts["notes"], fits=fits)
            self.facts = facts
            self.query_one("#estimate", Panel).say(pairs(estimate_lines(facts), 13))
            for step in self.query(Step):
                if step.ready:
                    step.planned(facts)
        self.show_errors()

    def _say_estimate(self, words: str) -> None:
        """Say why there is no estimate, wherever one would be."""
        for panel in self.query(".estimate").results(Panel):
            panel.say(f"[$muted]{words}[/]")

    # -- help ---------------------------------------------------------------------------------------------

    def on_descendant_focus(self, event: Any) -> None:
        """Say what the field in focus is for."""
        self.refit()

    def refit(self) -> None:
        """As much of the help as there is room for."""
        if self.display:
            row = row_of(self.focused)
            line = help_line(row.field if row else None, self.current.help, self.size.width)
            self.query_one("#help", Static).update(line, layout=False)

    def action_help(self) -> None:
        """All about the field in focus, or about the step."""
        row = row_of(self.focused)
        if row is None:
            self.app.push_screen(HelpWindow(self.step, plain(self.current.help)))
            return
        error = self.draft.errors().get(row.field.key, "")
        self.app.push_screen(HelpWindow(row.field.key, help_text(row.field, error)))

    def action_advanced(self) -> None:
        """Show every option of the recipe, or only the few that matter at first."""
        self.advanced = not self.advanced
        for step in self.query(Step):
            step.opened = False
        self.show_step(self.step)

    # -- ways on ------------------------------------------------------------------------------------------

    def action_save(self) -> None:
        """Save the recipe."""
        self._unless_replaced("Overwrite it?", self._save_if)

    def _unless_replaced(self, asked: str, go_on: Callable[[bool | None], None]) -> None:
        """Go on; where a recipe of another would be lost, once that was agreed to."""
        if not replaces(self.draft):
            go_on(True)
            return
        question = Question(f"{near(self.draft.path)} exists. {asked}", "Overwrite")
        self.app.push_screen(question, go_on)

    def _save_if(self, agreed: bool | None) -> None:
        if agreed and self._saved() is not None:
            self.notify(f"Saved as {near(self.draft.path)}.", markup=False)

    def _saved(self) -> Path | None:
        try:
            return save(self.draft)
        except EdgepeftError as error:
            self.notify(str(error), severity="error", title="Not saved", markup=False)
            return None

    def action_run(self) -> None:
        """Save the recipe and build it; if it has errors, show the first of them instead."""
        errors = self.draft.errors()
        if wrong := self.draft.name_error():
            errors.setdefault("", wrong)
        if errors:
            key, text = next(iter(errors.items()))
            self.show_step(step_of(key), anew=True)
            self.notify(text, severity="error", title="Can't start yet", markup=False)
            return
        self._unless_replaced("Overwrite it and run?", self._run_if)

    def _run_if(self, agreed: bool | None) -> None:
        if agreed and self._saved() is not None:
            self.wizard_app.start_run(self.draft)

    def action_leave(self) -> None:
        """Back home; the draft is kept."""
        self.wizard_app.drafts.keep(self.draft)
        self.app.pop_screen()
