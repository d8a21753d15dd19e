"""One recipe key in a form: its label, a control, and below it what is wrong with it."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Button, Input, Select, Static
from textual.widgets.select import InvalidSelectValueError

from edgepeft_tui.compat.textual_select import Dropdown
from edgepeft_tui.completing import Completing, completing
from edgepeft_tui.draft import Draft
from edgepeft_tui.fields import Field
from edgepeft_tui.plain_text import plain_line, visible_line
from edgepeft_tui.widgets.entry import Entry
from edgepeft_tui.widgets.hanging import Said
from edgepeft_tui.words import HANG

NOT_SAID = "\0"
"""The choice of a Select that stands for saying nothing."""


class FieldRow(Vertical):
    """A field of the form. It tells of changes as text, as a user would type it."""

    class Changed(Message):
        """Other text stands in a field."""

        def __init__(self, row: FieldRow, text: str) -> None:
            super().__init__()
            self.row = row
            self.text = text

    class Browse(Message):
        """The user wants to pick a path for a field."""

        def __init__(self, row: FieldRow) -> None:
            super().__init__()
            self.row = row

    def __init__(
        self, field: Field, text: str, *, label: str = "", paths: Completing | None = None
    ) -> None:
        """``paths`` completes what is typed, and goes with a button to browse."""
        super().__init__(id=f"row-{field.key.replace('.', '--')}")
        self.field = field
        self._text = text
        self._error = ""
        self.paths = paths
        self._label = label or field.label
        self._hint = ""

    @classmethod
    def of(cls, draft: Draft, field: Field, label: str) -> FieldRow:
        """The row of a key of a draft."""
        paths = completing(draft, field.key)
        return cls(field, draft.text(field.key), label=label, paths=paths)

    def compose(self) -> ComposeResult:
        """Label, control, a button for paths, and the line for errors."""
        with Horizontal(classes="field"):
            yield Static(self._label, classes="label", markup=False)
            if self.field.choices:
                yield self._select()
            else:
                yield Entry(
                    self._text,
                    placeholder=self._hint or self.field.default,
                    # A number is replaced more often than it is lengthened.
                    select_on_focus=self.field.numeric,
                    suggester=self.paths,
                )
            if self.paths is not None:
                yield Button("Browse", compact=True, classes="browse")
        yield Said("", classes="error")

    def on_mount(self) -> None:
        """Show what came while the control was being made, and of a path that is too long its end."""
        self._put()
        if self._error:
            self._say_error()
        if self.paths is not None:
            # The end says more than the beginning.
            self.call_after_refresh(self._show_end)

    def _show_end(self) -> None:
        for control in self.query(Input):
            control.cursor_position = 0
            control.cursor_position = len(control.value)

    def _select(self) -> Dropdown:
        value = self._text or NOT_SAID
        return Dropdown(self._options(), value=value, allow_blank=False, compact=True)

    def _options(self) -> list[tuple[Text, str]]:
        choices = list(self.field.choices)
        if self._text and self._text not in choices:
            choices.append(self._text)
        # A prompt that is a string would be read as markup.
        options = [(Text(visible_line(choice)), choice) for choice in choices]
        if not self.field.required:
            default = Text(f"{self.field.default or 'not set'} (default)")
            options.insert(0, (default, NOT_SAID))
        return options

    def begin(self) -> None:
        """Put the focus into the control."""
        self.query("Input, Select").first().focus()

    @property
    def text(self) -> str:
        """What stands in the field."""
        return self._text

    def show(self, text: str) -> None:
        """Put other text into the field from outside; tells nobody."""
        if text == self._text:
            return
        self._text = text
        if self.is_mounted:
            self._put()
            if self.paths is not None:
                self.call_after_refresh(self._show_end)

    def _put(self) -> None:
        for control in self.query(Input):
            with control.prevent(Input.Changed):
                control.value = self._text
        for select in self.query(Select):
            with select.prevent(Select.Changed):
                try:
                    select.value = self._text or NOT_SAID
                except InvalidSelectValueError:
                    # Typed elsewhere, and none of the choices.
                    select.set_options(self._options())
                    select.value = self._text or NOT_SAID

    def hint(self, words: str) -> None:
        """Say in the empty field what it comes to; the default where there are no words."""
        if words != self._hint:
            self._hint = words
            for control in self.query(Input):
                control.placeholder = words or self.field.default

    def complain(self, error: str) -> None:
        """Show what is wrong, or that nothing is."""
        if error != self._error:
            self._error = error
            self.set_class(bool(error), "-wrong")
            self._say_error()

    def _say_error(self) -> None:
        # A row that is not composed yet has no such line, and says it once it is mounted.
        for line in self.query(".error").results(Said):
            line.say(f"✗ {HANG}{plain_line(self._error)}" if self._error else "")

    def on_descendant_focus(self) -> None:
        """Mark the label. A style for ``:focus-within`` is not seen where the focus comes with the row."""
        self.add_class("-entered")

    def on_descendant_blur(self) -> None:
        """Mark it no longer."""
        self.remove_class("-entered")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Tell of what was typed."""
        event.stop()
        if event.value != self._text:
            self._text = event.value
            self.post_message(self.Changed(self, event.value))

    def on_select_changed(self, event: Select.Changed) -> None:
        """Tell of what was chosen."""
        event.stop()
        text = "" if event.value == NOT_SAID else str(event.value)
        if text != self._text:
            self._text = text
            self.post_message(self.Changed(self, text))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Ask for a picker."""
        event.stop()
        self.post_message(self.Browse(self))
