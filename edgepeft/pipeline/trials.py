"""What a run has measured of other recipes already, and what a plan would take of a changed one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepeft.config.loader import varied
from edgepeft.config.sections import Merge
from edgepeft.errors import InputError
from edgepeft.evaluation.gates import missed_gates
from edgepeft.pipeline.checks import validate
from edgepeft.pipeline.plan import Plan
from edgepeft.pipeline.promises import gates_of
from edgepeft.pipeline.resolve import for_task, resolve_targets
from edgepeft.pipeline.resolved import ResolvedRecipe, ResolvedTarget
from edgepeft.utils.files import read_json_object

RECORD = "comparison.json"
"""Where ``edgepeft compare`` leaves its measures in the run."""


@dataclass(frozen=True)
class Trial:
    """A bundle of the same reference that was measured: ``what`` and ``overrides`` set its recipe apart.

    ``merge`` and ``target`` are what it was built with, ``missed`` are names of gates, ``source`` says who
    measured it.
    """

    what: str
    overrides: tuple[str, ...]
    merge: Merge
    target: ResolvedTarget
    nbytes: int
    missed: frozenset[str]
    source: str

    def alike(self, changed: ResolvedRecipe, target: ResolvedTarget) -> bool:
        """Whether the bundle was built as a changed recipe would build it for its ``target``."""
        mine, other = (
            (one.asked, one.grid.model_copy(update={"algorithm": one.algorithm}))
            for one in (self.target, target)
        )
        return mine == other and self.merge == changed.recipe.merge

    def settles(self, gates: set[str]) -> bool:
        """Whether nothing is left to suggest of the bundle: it passed, or misses the same gates."""
        return not self.missed or bool(self.missed & gates)


def built_beside(plan: Plan, others: Sequence[Mapping[str, Any]]) -> Iterator[Trial]:
    """The other bundles of the same build."""
    for entry in others:
        if entry["gates"] is None:
            continue
        target = plan.resolved.target(entry["target"])
        written = target.asked.model_dump(mode="json", exclude_defaults=True)
        missed = entry["gates"] if isinstance(entry["gates"], list) else []
        yield Trial(
            f"targets: {target.name}",
            (f"targets={written_value([written])}",),
            plan.resolved.recipe.merge,
            target,
            entry["bytes"],
            frozenset(gate.partition(":")[0] for gate in missed),
            "this build",
        )


def compared(plan: Plan, own: Mapping[str, Any]) -> Iterator[Trial]:
    """Bundles that ``edgepeft compare`` measured in this run against the reference of the measures ``own``."""
    try:
        entries = read_json_object(plan.run.path / RECORD, own=True)["entries"]
    except (OSError, InputError, KeyError):
        return
    for entry in entries:
        facts = entry.get("fidelity")
        if facts is None or not _same_reference(facts, own):
            continue
        overrides = tuple(f"{key}={value}" for key, value in entry["values"].items())
        changed = checked(plan.resolved, overrides)
        if changed is None or not Path(entry["path"]).is_dir():
            continue
        target = changed.target(entry["target"])
        missed = missed_gates(facts, gates_of(changed, target))
        yield Trial(
            ", ".join(f"{key}: {value}" for key, value in entry["values"].items()),
            overrides,
            changed.recipe.merge,
            target,
            entry["bytes"],
            frozenset(gate.partition(":")[0] for gate in missed),
            "edgepeft compare",
        )


def _same_reference(facts: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether two bundles were measured against one reference: no two trainings end at the same loss."""
    keys = ("task", "rows", "base_task_loss", "reference_task_loss")
    return all(facts.get(key) == own.get(key) for key in keys)


def checked(resolved: ResolvedRecipe, overrides: Sequence[str]) -> ResolvedRecipe | None:
    """The recipe with overrides, as far as a plan would take it; its files are those that were read."""
    try:
        file = varied(resolved.file, overrides)
        targets = tuple(for_task(one, resolved.task) for one in resolve_targets(file.recipe))
        changed = replace(resolved, file=file, targets=targets)
        validate(changed)
    except InputError:
        return None
    return changed


def written_value(value: Any) -> str:
    """A value as ``--set`` reads it."""
    return value if isinstance(value, str) else json.dumps(value)
