"""Step 6: the recipe as it will be written; run, save or copy it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.highlight import highlight
from textual.widget import Widget
from textual.widgets import Button, Input, Static

from edgepeft_tui.draft_files import build_command
from edgepeft_tui.plain_text import plain_line, visible
from edgepeft_tui.steps.base import Step
from edgepeft_tui.widgets.entry import Entry
from edgepeft_tui.widgets.hanging import Said
from edgepeft_tui.widgets.page import Panel
from edgepeft_tui.words import HANG, estimate_lines, marked, pairs


class ReviewStep(Step):
    """YAML, what is still wrong, and the buttons."""

    title = "Review"
    help = (
        "Run saves the recipe and starts the build. Save only saves it. Copy command copies the command line "
        "that does the same. The recipe is an ordinary file for edgepeft build."
    )

    def content(self) -> ComposeResult:
        """Buttons, name, errors, the recipe, the estimate."""
        with Horizontal(classes="buttons"):
            yield Button("Run", id="run", variant="success", compact=True)
            yield Button("Save", id="save", compact=True)
            yield Button("Copy command", id="copy", compact=True)
        with Horizontal(classes="field"):
            yield Static("name", classes="label")
            yield Entry(self.draft.name, id="name")
        yield Said("", id="wrong-name", classes="error")
        yield Said("", id="wrong", classes="error")
        yield Said("", id="command")
        yield Panel("Recipe", id="yaml")
        yield Panel("Estimate", id="review-cost", classes="narrow-only estimate")

    def first(self) -> Widget:
        """The button that most people want."""
        return self.query_one("#run")

    def enter(self) -> None:
        """Show the recipe as it is now."""
        super().enter()
        self._show()

    def _show(self) -> None:
        self.query_one("#yaml", Panel).update(
            highlight(visible(self.draft.yaml()), language="yaml")
        )
        said = plain_line(build_command(self.draft))
        self.query_one("#command", Said).say(f"[$muted]$[/] {HANG}{said}")

    def show_errors(self, errors: Mapping[str, str]) -> None:
        """All errors, each in its own line."""
        lines = [f"✗ {HANG}{plain_line(text)}" for text in errors.values()]
        wrong = self.query_one("#wrong", Said)
        wrong.display = bool(lines)
        wrong.say("\n".join(lines))
        self._show()

    def planned(self, facts: Mapping[str, Any]) -> None:
        """Show the estimate where the panel beside has no room."""
        notes = "".join("\n" + marked("warning", plain_line(note)) for note in facts["notes"])
        self.query_one("#review-cost", Panel).say(pairs(estimate_lines(facts)) + notes)

    @on(Input.Changed, "#name")
    def _rename(self, event: Input.Changed) -> None:
        event.stop()
        self.draft.name = event.value.strip()
        if not self.ready:
            return
        self.draft.findings.planned = False
        self.wizard.show_where()
        self.wizard.changed()
        wrong, line = self.draft.name_error(), self.query_one("#wrong-name", Said)
        line.display = bool(wrong)
        line.say(f"✗ {HANG}{plain_line(wrong)}" if wrong else "")
        self._show()

    @on(Button.Pressed)
    def _press(self, event: Button.Pressed) -> None:
        event.stop()
        match event.button.id:
            case "run":
                self.wizard.action_run()
            case "save":
                self.wizard.action_save()
            case "copy":
                self.app.copy_to_clipboard(build_command(self.draft))
                self.notify(f"Copied: {build_command(self.draft)}", markup=False)
