"""Step 3: how an adapter is trained, or which one there is already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import RadioButton, RadioSet, Static

from edgepeft_tui.steps.base import Step
from edgepeft_tui.widgets.field_row import FieldRow
from edgepeft_tui.widgets.page import Panel
from edgepeft_tui.words import estimate_lines, pairs


class MethodStep(Step):
    """Method and training, or the folder of an adapter."""

    help = (
        "Train an adapter, or take one that PEFT has saved: then nothing is trained and the rest is the same.\n\n"
        "Method, rank and steps are what matters to begin with; F4 shows every key of the recipe."
    )

    def content(self) -> ComposeResult:
        """The choice, then the fields of what was chosen."""
        with RadioSet(id="source", compact=True):
            yield RadioButton("train an adapter", value=self.draft.trains)
            yield RadioButton("use an adapter there is", value=not self.draft.trains)
        with Vertical(id="existing"):
            yield from self.rows("adapter", simple=["adapter"], browse=["adapter"])
        with Vertical(id="training"):
            yield Static("Method", classes="caption")
            yield from self.rows("method.", simple=["method.name", "method.rank"])
            yield Static("Training", classes="caption")
            yield from self.rows(
                "training.", simple=["training.max_steps", "training.learning_rate"]
            )
        yield Panel("Estimate", id="cost", classes="narrow-only")

    def filled(self) -> None:
        """Show the half that counts."""
        self._show_half(self.draft.trains)

    def _show_half(self, trains: bool) -> None:
        self.query_one("#existing").display = not trains
        self.query_one("#training").display = trains

    @on(RadioSet.Changed, "#source")
    def _choose(self, event: RadioSet.Changed) -> None:
        event.stop()
        trains = event.index == 0
        if trains != self.draft.trains:
            self.draft.use_adapter(None if trains else "adapter")
            self.enter()
            self.changed()
        self._show_half(trains)

    def enter(self) -> None:
        """Show what the draft says now."""
        super().enter()
        self._show_half(self.draft.trains)

    def on_field_row_browse(self, event: FieldRow.Browse) -> None:
        """Pick an adapter's folder."""
        event.stop()
        self.pick_path(event.row, (), folders=True)

    def planned(self, facts: Mapping[str, Any]) -> None:
        """Show the estimate where the panel beside has no room."""
        self.query_one("#cost", Panel).say(pairs(estimate_lines(facts)))
