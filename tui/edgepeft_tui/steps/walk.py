"""The steps in the order they are walked."""

from __future__ import annotations

from edgepeft_tui.steps.base import Step
from edgepeft_tui.steps.data import DataStep
from edgepeft_tui.steps.merge import MergeStep
from edgepeft_tui.steps.method import MethodStep
from edgepeft_tui.steps.model import ModelStep
from edgepeft_tui.steps.review import ReviewStep
from edgepeft_tui.steps.targets import TargetsStep

STEP_KINDS: dict[str, type[Step]] = {
    kind.title: kind
    for kind in (ModelStep, DataStep, MethodStep, MergeStep, TargetsStep, ReviewStep)
}


def step_id(title: str) -> str:
    """The id of a step's widget."""
    return "step-" + title.lower().replace(" ", "-")
