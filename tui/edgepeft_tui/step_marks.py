"""What the rail says of each step: a sign, and the same in words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgepeft_tui.draft import Draft
from edgepeft_tui.fields import all_fields, field_at
from edgepeft_tui.raw_recipe import STEPS, step_of
from edgepeft_tui.words import mark


@dataclass(frozen=True)
class Mark:
    """How a step stands: ``invalid``, ``warning``, ``open``, ``unopened`` or ``done``; and the same in words."""

    state: str
    words: str


def marks_of(draft: Draft, errors: Mapping[str, str] | None = None) -> dict[str, Mark]:
    """Step to its mark. ``errors`` are those of ``Draft.errors``, where they are known already.

    A step is complete only if the values that it has now have been planned without an error.
    """
    errors = draft.errors() if errors is None else errors
    wrong = [step_of(key) for key in errors]
    wrong += ["Review"] if draft.name_error() else []
    warned = [step for (step, _), said in draft.findings.warnings.items() for _ in said]
    lacking = set(_lacking(draft))
    return {
        step: _mark(
            wrong.count(step),
            warned.count(step),
            lacks=step in lacking,
            seen=step in draft.opened,
            right=_is_right(draft, step),
        )
        for step in STEPS
    }


def _mark(errors: int, warnings: int, *, lacks: bool, seen: bool, right: bool) -> Mark:
    if errors:
        return Mark("invalid", _counted(errors, "error"))
    if not seen:
        return Mark("unopened", "not opened yet")
    if lacks:
        return Mark("open", "incomplete")
    if not right:
        return Mark("open", "not checked yet")
    if warnings:
        return Mark("warning", _counted(warnings, "warning"))
    return Mark("done", "complete")


def on_rail(step: str, mark_of: Mark) -> str:
    """A step in two lines: its sign and its name, and how it stands in words."""
    name = f"{mark(mark_of.state)} {STEPS.index(step) + 1} {step}"
    return f"{name}\n    [$muted]{mark_of.words}[/]"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _lacking(draft: Draft) -> Iterable[str]:
    """Steps in which something must be named yet."""
    needs_train = draft.trains or draft.holds_out
    if not draft.get("data.test") or (needs_train and not draft.get("data.train")):
        yield "Data"
    if not draft.get("model"):
        yield "Model"
    if draft.raw.get("adapter") == "":
        yield "Method"


def _is_right(draft: Draft, step: str) -> bool:
    if step == "Review":
        return draft.findings.planned
    return draft.findings.verified.get(step) == _values(draft, step)


def _values(draft: Draft, step: str) -> str:
    """What the recipe says in a step."""
    own = {key: value for key, value in draft.raw.items() if step_of(key) == step}
    return json.dumps(own, sort_keys=True, default=str)


def note_plan(draft: Draft, notes: Iterable[str], *, fits: bool) -> None:
    """Keep that the draft was planned without an error, and what was said of it, each at its step."""
    findings = draft.findings
    findings.trouble, findings.planned = None, True
    findings.verified = {step: _values(draft, step) for step in STEPS}
    for step in STEPS:
        findings.warnings[step, "plan"] = []
    for note in notes:
        findings.warnings[_step_in(note), "plan"].append(note)
    if not fits:
        findings.warnings["Model", "plan"].append("the build needs more memory than is free here")


def _step_in(note: str) -> str:
    """The step that a note of the plan speaks of: that of the key it begins with or holds."""
    start = note.partition(": ")[0]
    if field_at(start) is not None:
        return step_of(start)
    keys = sorted(all_fields(), key=len, reverse=True)
    return next((step_of(key) for key in keys if "." in key and key in note), "Review")
