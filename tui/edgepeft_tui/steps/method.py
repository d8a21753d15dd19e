"""Step 3: how an adapter is trained, or which existing ones are used and how several become one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, RadioSet, Static

from edgepeft.combination.methods import METHODS, REGMEAN
from edgepeft_tui.fields import part_fields
from edgepeft_tui.plain_text import plain_line
from edgepeft_tui.steps.base import Step
from edgepeft_tui.widgets.choices import Choice
from edgepeft_tui.widgets.field_row import FieldRow
from edgepeft_tui.widgets.hanging import Hanging
from edgepeft_tui.widgets.page import Panel
from edgepeft_tui.words import HANG, estimate_lines, pairs


class MethodStep(Step):
    """Method and training, or the folders of adapters."""

    title = "Method"
    help = (
        "Train an adapter, or use an existing one that PEFT has saved. Then nothing is trained.\n\n"
        "Several adapters of one base can be combined into one, each with a weight.\n\n"
        "Method, rank and steps matter most at first. F4 (All options) shows the rest."
    )

    def content(self) -> ComposeResult:
        """The choice, then the fields of what was chosen."""
        self._named |= {"adapter", "combine"}
        with RadioSet(id="source", compact=True):
            yield Choice("Train an adapter", value=self.draft.trains)
            yield Choice("Use an existing adapter", value=not self.draft.trains)
        with Vertical(id="existing"):
            yield from self._adapters()
        with Vertical(id="training"):
            yield Static("Method", classes="caption")
            yield from self.rows("method.", simple=["method.name", "method.rank"])
            yield Static("Training", classes="caption")
            yield from self.rows(
                "training.", simple=["training.max_steps", "training.learning_rate"]
            )
        yield Panel("Estimate", id="cost", classes="narrow-only estimate")

    def _adapters(self) -> Iterable[Any]:
        """A field for the one adapter, or fields for each of several and for how they are combined."""
        count = self.draft.adapters
        if count < 2 and not isinstance(self.draft.get("adapter"), list):
            yield from self.rows("adapter", simple=["adapter"])
        else:
            for index in range(count):
                for key, spec in part_fields("adapter", index).items():
                    name = key.rpartition(".")[2]
                    if name == "rows" and not (self._fits() or self.draft.get(key)):
                        continue
                    label = f"adapter {index + 1}" if name == "path" else f"  {name}"
                    yield FieldRow.of(self.draft, spec, label)
        with Horizontal(classes="buttons"):
            yield Button("Add an adapter", id="add-adapter", compact=True)
            if count > 1:
                yield Button("Remove last", id="drop-adapter", compact=True)
        if count > 1:
            yield Static("Combine", classes="caption")
            yield from self.rows("combine.", simple=["combine.method", *self._wanted()])
            yield Static(Hanging(self._about_method()), id="about-combine")

    def _wanted(self) -> list[str]:
        """The keys that the way of combining asks for."""
        how = self.draft.text("combine.method") or "svd"
        keys = []
        if any(word in how for word in ("ties", "dare", "magnitude")):
            keys.append("combine.density")
        if "svd" in how:
            keys.append("combine.rank")
        if self._fits():
            keys.append("combine.rows")
        # What is set already is shown, though this way of combining may refuse it.
        others = ("combine.density", "combine.rank", "combine.rows")
        keys += [key for key in others if self.draft.get(key)]
        return list(dict.fromkeys(keys))

    def _fits(self) -> bool:
        """Whether adapters are fitted to rows of their tasks."""
        return self.draft.text("combine.method") == REGMEAN

    def _about_method(self) -> str:
        how = self.draft.text("combine.method") or "svd"
        return f"[$muted]{plain_line(how)}: {HANG}{plain_line(METHODS.get(how, ''))}[/]"

    def filled(self) -> None:
        """Show the half that applies, with the cursor on what is chosen: a key must not choose the other."""
        self._show_half(self.draft.trains)
        source = self.query_one("#source", RadioSet)
        for _ in range(source.pressed_index):
            source.action_next_button()

    def _show_half(self, trains: bool) -> None:
        self.query_one("#existing").display = not trains
        self.query_one("#training").display = trains

    @on(RadioSet.Changed, "#source")
    def _choose(self, event: RadioSet.Changed) -> None:
        event.stop()
        trains = event.index == 0
        if trains != self.draft.trains:
            self.draft.use_adapter(None if trains else "")
            if self.ready:
                self.enter()
            self.changed()
        if self.ready:
            self._show_half(trains)

    @on(Button.Pressed, "#add-adapter")
    def _add(self, event: Button.Pressed) -> None:
        event.stop()
        self.draft.add_adapter()
        self._show_adapters(f"#row-adapter--{self.draft.adapters - 1}--path")

    @on(Button.Pressed, "#drop-adapter")
    def _drop(self, event: Button.Pressed) -> None:
        event.stop()
        self.draft.drop_adapter()
        self._show_adapters("#add-adapter")

    def typed(self, key: str) -> None:
        """Another way to combine asks for other keys."""
        if key == "combine.method":
            self.call_after_refresh(self._show_adapters, "#row-combine--method")

    def _show_adapters(self, begin: str) -> None:
        """Make the adapters' fields anew and put the focus into one of them."""

        async def remake() -> None:
            await self._maker.run(self._remake_adapters)
            if not self.ready:
                return
            self.changed()
            for place in self.query(begin):  # gone if the list has changed once more
                target = place if place.can_focus else place.query("Input, Select").first()
                target.focus()

        self.run_worker(remake(), exclusive=True, group="adapters")

    async def _remake_adapters(self) -> None:
        if not self.ready:
            return
        box = self.query_one("#existing")
        async with self.batch():
            await box.remove_children()
            await box.mount_compose(self._adapters())

    def enter(self) -> None:
        """Show what the draft says now."""
        super().enter()
        self._show_half(self.draft.trains)

    def planned(self, facts: Mapping[str, Any]) -> None:
        """Show the estimate where the panel beside has no room."""
        self.query_one("#cost", Panel).say(pairs(estimate_lines(facts)))
