"""Step 5: which devices, and what their bundles must hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.widgets import SelectionList, Static
from textual.widgets.selection_list import Selection

from edgepeft.cli.tables import megabytes
from edgepeft.targets import TargetProfile, all_targets
from edgepeft_tui.steps.base import Step
from edgepeft_tui.words import plain


class TargetsStep(Step):
    """Device profiles, those this recipe can't have with the reason; and the gates."""

    help = (
        "Space chooses a device; several make several bundles of one adapter. Sizes are predictions.\n\n"
        "A bundle that misses a gate is kept and marked, and the build exits with status 4."
    )

    def compose(self) -> ComposeResult:
        """The list and the gates."""
        chosen = self.draft.targets
        yield SelectionList[str](
            *[
                Selection(_describe(target), target.name, target.name in chosen)
                for target in all_targets().values()
            ],
            id="devices",
            compact=True,
        )
        yield Static("", id="targets-error", classes="error")
        yield Static("Gates", classes="caption")
        yield from self.rows("gates.", simple=["gates.max_exact_match_drop", "gates.max_task_kl"])

    @on(SelectionList.SelectionToggled, "#devices")
    def _toggle(self, event: SelectionList.SelectionToggled[str]) -> None:
        event.stop()
        self.draft.toggle_target(event.selection.value)
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
        """What is wrong with the choice stands below it."""
        text = errors.get("targets", "")
        self.query_one("#targets-error", Static).update(f"! {plain(text)}" if text else "")

    def planned(self, facts: Mapping[str, Any]) -> None:
        """Predicted sizes, and what this recipe can't have."""
        known = {choice["target"]: choice for choice in facts["choices"]}
        devices = self.query_one("#devices", SelectionList)
        for index, target in enumerate(all_targets().values()):
            choice = known.get(target.name)
            if choice is None:
                continue
            devices.replace_option_prompt_at_index(index, _describe(target, choice))
            refused = bool(choice["refused"]) and target.name not in self.draft.targets
            if refused:
                devices.disable_option_at_index(index)
            else:
                devices.enable_option_at_index(index)


def _describe(target: TargetProfile, choice: Mapping[str, Any] | None = None) -> str:
    """A device in two lines: what it is for, and what its bundle would be or why there is none."""
    provider = target.provider.removesuffix("ExecutionProvider")
    executed = target.verify_provider == target.provider
    proof = (
        "measured on it here"
        if executed
        else f"graph measured on {target.verify_provider.removesuffix('ExecutionProvider')}"
    )
    second = f"{provider}, {target.precision} weights, {proof}"
    if choice is not None:
        if choice["refused"]:
            second = f"not with this recipe: {choice['refused']}"
        else:
            second = f"bundle about {megabytes(choice['bytes'])}; {second}"
    return f"[b]{target.name}[/b]  {plain(target.summary)}\n  [$foreground 60%]{plain(second)}[/]"
