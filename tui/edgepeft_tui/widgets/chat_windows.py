"""Small windows over a chat: how it answers, and where it is saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.events import DescendantFocus
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from edgepeft.errors import EdgepeftError
from edgepeft.runtime.sampling_params import OutOfRange
from edgepeft_tui.answer_options import SYSTEM, AnswerOptions, read_number, sampling_fields
from edgepeft_tui.field_help import help_line, row_of
from edgepeft_tui.fields import Field, shown
from edgepeft_tui.widgets.field_row import FieldRow

_HINTS = {"seed": "another one for each answer"}
"""What an empty field comes to, where that is no value."""


class OptionsWindow(ModalScreen[AnswerOptions | None]):
    """The system message and how tokens are chosen; None where nothing is to change."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Cancel")]

    def __init__(self, options: AnswerOptions, trained: set[str]) -> None:
        """``trained`` are the system messages of the training of those that answer, empty ones among them."""
        super().__init__()
        self._options = options
        # Where trainings had several, an empty field leaves each its own.
        self._trained = next(iter(trained)) if len(trained) == 1 else None
        self._errors: dict[str, str] = {}

    def compose(self) -> ComposeResult:
        """A row for each option, what the one in focus is for, the ways out."""
        with Vertical(classes="window options") as window:
            window.border_title = "Answers"
            window.border_subtitle = "Enter takes them · Esc leaves them as they were"
            system = FieldRow(SYSTEM, self._system(), label="system message")
            if self._trained is None:
                system.hint("to each that of its training")
            yield system
            for name, field in sampling_fields().items():
                row = FieldRow(field, shown(self._options.sampling.get(name)))
                row.hint(_HINTS.get(name, ""))
                yield row
            yield Static("", classes="about")
            with Horizontal(classes="buttons"):
                yield Button("Defaults", id="defaults", compact=True)
                yield Button("Take them", id="take", compact=True)

    def _system(self) -> str:
        said = self._options.system
        return (self._trained or "") if said is None else said

    @property
    def _rows(self) -> dict[str, FieldRow]:
        return {row.field.key: row for row in self.query(FieldRow)}

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Say what the field in focus is for."""
        row, about = row_of(event.widget), self.query_one(".about", Static)
        about.update(help_line(row.field if row else None, "", about.size.width))

    @on(FieldRow.Changed)
    def _look(self, event: FieldRow.Changed) -> None:
        """Say at once what a field can't have."""
        key = event.row.field.key
        self._errors.pop(key, None)
        if key in sampling_fields() and event.text.strip():
            try:
                read_number(key, event.text)
            except OutOfRange as error:
                self._errors[key] = error.said
        event.row.complain(self._errors.get(key, ""))

    @on(Button.Pressed, "#defaults")
    def _reset(self) -> None:
        for key, row in self._rows.items():
            row.show((self._trained or "") if key == SYSTEM.key else "")
            row.complain("")
        self._errors.clear()

    @on(Input.Submitted)
    @on(Button.Pressed, "#take")
    def _take(self) -> None:
        rows = self._rows
        if self._errors:
            rows[next(iter(self._errors))].begin()
            return
        told: str | None = rows[SYSTEM.key].text
        if told == (self._trained or ""):
            told = None
        typed = {name: rows[name].text for name in sampling_fields()}
        numbers = {name: read_number(name, text) for name, text in typed.items() if text.strip()}
        self.dismiss(AnswerOptions(told, numbers))


FILE = Field(
    key="file",
    help="The file to write, a conversation a line, as rows of messages.",
    required=True,
    literal=True,
)


class SaveWindow(ModalScreen[Path | None]):
    """Where to save; it stays open until that is done, and says why it can't be."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Cancel")]

    def __init__(self, name: str, save: Callable[[str], Path]) -> None:
        """``save`` writes to what was typed, at first ``name``, and raises EdgepeftError."""
        super().__init__()
        self._first, self._save = name, save

    def compose(self) -> ComposeResult:
        """The field."""
        with Vertical(classes="window saving") as window:
            window.border_title = "Save the conversation"
            window.border_subtitle = "Enter saves · Esc leaves it"
            yield FieldRow(FILE, self._first)

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self._try(self.query_one(FieldRow))

    @work(exclusive=True, thread=True)
    def _try(self, row: FieldRow) -> None:
        try:
            path = self._save(row.text)
        except EdgepeftError as error:
            self.app.call_from_thread(row.complain, str(error))
        else:
            self.app.call_from_thread(self.dismiss, path)
