"""Step 5: which devices, and the gates of their bundles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textual import on, work
from textual.app import ComposeResult
from textual.widgets import SelectionList, Static
from textual.widgets.selection_list import Selection

from edgepeft.targets import TargetProfile, all_targets
from edgepeft.utils.quantities import megabytes
from edgepeft_tui.draft import Draft
from edgepeft_tui.plain_text import plain_line, title
from edgepeft_tui.steps.base import Step
from edgepeft_tui.widgets.choices import Checklist
from edgepeft_tui.widgets.field_row import FieldRow
from edgepeft_tui.widgets.hanging import Said
from edgepeft_tui.widgets.page import Panel
from edgepeft_tui.widgets.parts import Parts
from edgepeft_tui.words import HANG, pairs


class TargetsStep(Step):
    """Device profiles, with the reason where this recipe can't have one; and the gates."""

    title = "Targets"
    help = (
        "Space chooses a device. Each device gets a bundle of its own. Sizes are estimates.\n\n"
        "A bundle that misses a gate is kept and marked as failed. The build then exits with status 4."
    )

    def __init__(self, draft: Draft, *, id: str) -> None:
        super().__init__(draft, id=id)
        self._choices: dict[str, Any] = {}

    def content(self) -> ComposeResult:
        """The list and the gates."""
        chosen = self.draft.targets
        yield Checklist(
            *[
                Selection(_line(target), target.name, target.name in chosen)
                for target in all_targets().values()
            ],
            id="devices",
            compact=True,
        )
        yield Said("", id="targets-error", classes="error")
        yield Panel("Device", id="about-target")
        # A device of one's own, or what is said of one alone: its keys are those of the recipe's list.
        yield self.parts("targets", grows=self.wizard.advanced)
        if self.draft.swaps or self.draft.parts("adapters") or self.shows("adapters"):
            yield Static("Further adapters", classes="caption")
            yield self.parts("adapters")
        yield Static("Gates", classes="caption")
        yield from self.rows("gates.", simple=["gates.max_exact_match_drop", "gates.max_task_kl"])

    def seen_elsewhere(self, key: str) -> bool:
        """The names of registered devices are ticks in the list."""
        return key.endswith(".name") and self.draft.text(key) in all_targets()

    @on(SelectionList.SelectionToggled, "#devices")
    def _toggle(self, event: SelectionList.SelectionToggled[str]) -> None:
        event.stop()
        self.draft.toggle_target(event.selection.value)
        self._show_parts()
        self.changed()

    @work(exclusive=True, group="parts")
    async def _show_parts(self) -> None:
        if self.ready:
            await self.query_one("#parts-targets", Parts).remake()

    @on(Parts.Changed)
    def _parts(self, event: Parts.Changed) -> None:
        event.stop()
        if self.ready:
            self.enter()
        self.changed()

    def enter(self) -> None:
        """Show the draft's targets."""
        super().enter()
        devices = self.query_one("#devices", SelectionList)
        with devices.prevent(SelectionList.SelectionToggled, SelectionList.SelectedChanged):
            devices.deselect_all()
            for name in self.draft.targets:
                if name in all_targets():
                    devices.select(name)

    def show_errors(self, errors: Mapping[str, str]) -> None:
        """What is wrong with the choice is shown below it."""
        at_fields = {row.field.key for row in self.query(FieldRow)}
        text = next((errors[key] for key in errors if _is_about(key) and key not in at_fields), "")
        line = self.query_one("#targets-error", Said)
        line.display = bool(text)
        line.say(f"✗ {HANG}{plain_line(text)}" if text else "")

    def planned(self, facts: Mapping[str, Any]) -> None:
        """Estimated sizes, and devices this recipe can't have."""
        known = self._choices = {choice["target"]: choice for choice in facts["choices"]}
        devices = self.query_one("#devices", SelectionList)
        for index, target in enumerate(all_targets().values()):
            choice = known.get(target.name)
            if choice is None:
                continue
            devices.replace_option_prompt_at_index(index, _line(target, choice))
            refused = bool(choice["refused"]) and target.name not in self.draft.targets
            if refused:
                devices.disable_option_at_index(index)
            else:
                devices.enable_option_at_index(index)
        self._show_details(devices.highlighted or 0)

    @on(SelectionList.SelectionHighlighted, "#devices")
    def _look(self, event: SelectionList.SelectionHighlighted[str]) -> None:
        event.stop()
        if self.ready:
            self._show_details(event.selection_index)

    def _show_details(self, index: int) -> None:
        target = list(all_targets().values())[index]
        panel = self.query_one("#about-target", Panel)
        panel.border_title = title(target.name)
        panel.say(_details(target, self._choices.get(target.name)))


def _is_about(key: str) -> bool:
    """Whether an error is one of the choice of devices, or of adapters for them."""
    return key.partition(".")[0] in ("targets", "adapters")


def _line(target: TargetProfile, choice: Mapping[str, Any] | None = None) -> str:
    """A device in one line: its name, the size its bundle would have, what it is for."""
    if choice is None:
        about = target.summary
    elif choice["refused"]:
        about = f"not possible with this recipe: {choice['refused']}"
    else:
        about = f"{megabytes(choice['bytes'])}; {target.summary}"
    width = max(map(len, all_targets())) + 1
    return f"{target.name:<{width}}[$muted]{plain_line(about)}[/]"


def _details(target: TargetProfile, choice: Mapping[str, Any] | None) -> str:
    """All about a device: what it needs, how its bundle is verified here, or why this recipe can't have it."""
    provider = target.provider.removesuffix("ExecutionProvider")
    here = target.verify_provider.removesuffix("ExecutionProvider")
    executed = target.verify_provider == target.provider
    proof = f"on {here}" if executed else f"on {here}; not run on {provider} here"
    lines = [
        ("for", target.summary),
        ("runs on", f"{provider}, {target.precision} weights, computes in {target.io_dtype}"),
        ("verified", proof),
    ]
    if choice is not None and choice["refused"]:
        lines.append(("refused", choice["refused"]))
    elif choice is not None:
        lines.append(("bundle", f"about {megabytes(choice['bytes'])}"))
        lines.append(("memory", f"about {megabytes(choice['memory_bytes'])} on the device"))
    return pairs(lines, 9)
