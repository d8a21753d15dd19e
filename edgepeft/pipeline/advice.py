"""What is told of a bundle that missed a gate: the rows it lost, and what to try, with the costs that are known.

A suggestion is told when the recipe that it makes passes every check of a plan. What another bundle of the run
has measured, of the same build or of ``edgepeft compare``, stands in place of an estimate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepeft.config.target_sections import Gates
from edgepeft.evaluation.advice import COST_WORDS, Cost, Situation, Suggestion, suggestions
from edgepeft.evaluation.gates import Judged, judged_gates
from edgepeft.evaluation.lost_rows import LOST, read_lost
from edgepeft.evaluation.measures import Level0
from edgepeft.pipeline.plan import Plan
from edgepeft.pipeline.promises import gates_of
from edgepeft.pipeline.resolved import ResolvedRecipe, ResolvedTarget
from edgepeft.pipeline.sizes import bundle_bytes
from edgepeft.pipeline.trials import Trial, built_beside, checked, compared, written_value
from edgepeft.runs.folder import read_manifest
from edgepeft.stages.job import Stage
from edgepeft.targets import TargetProfile, all_targets
from edgepeft.utils.quantities import megabytes

SHOWN_ROWS = 5
_WIDTH = {"int4": 4, "nf4": 4, "int8": 8, "fp16": 16, "bf16": 16, "fp32": 32}


@dataclass(frozen=True)
class Measured:
    """Measures as a verify stage left them in ``folder``; ``adapter`` names one of a hot-swap bundle."""

    folder: Path
    facts: Mapping[str, Any]
    gates: Gates
    adapter: str | None = None


def add_advice(plan: Plan, bundles: Sequence[dict[str, Any]]) -> None:
    """Give entries of ``build --json`` an ``advice`` where their bundle missed a gate; they are sealed."""
    for stage, entry in zip(plan.kind("export"), bundles, strict=True):
        others = [one for one in bundles if one is not entry]
        advice = _advice(plan, stage, entry, others)
        if advice is not None:
            entry["advice"] = advice


def _advice(
    plan: Plan, export: Stage, entry: Mapping[str, Any], others: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    judged = [(one, _missed(one)) for one in _measured(plan, entry)]
    failed = [(one, missed) for one, missed in judged if missed]
    if not failed:
        return None
    first = failed[0][0]
    gates = tuple({judge.gate: judge for _, missed in failed for judge in missed}.values())
    tried = [*built_beside(plan, others), *compared(plan, first.facts)]
    target = plan.resolved.target(entry["target"])
    known = _situation(plan.resolved, target, first, gates, _layer_errors(plan, export))
    return {
        # Plain text has no answers.
        "lost": [_lost(one) for one, _ in failed if one.facts["rows"]],
        "try": [
            *_measured_already(tried, entry["bytes"]),
            *_not_tried(plan.resolved, target, suggestions(known), tried, known, entry["bytes"]),
        ],
    }


def _measured(plan: Plan, entry: Mapping[str, Any]) -> Iterator[Measured]:
    """What was measured of a bundle, or of each of its adapters."""
    target = plan.resolved.target(entry["target"])
    verified = {one.inputs.get("adapter"): one.final for one in plan.kind("verify")}
    for adapter in entry.get("adapters", ()):
        name = adapter["name"]
        if adapter["fidelity"]:
            place = verified[f"adapt-{target.name}-{name}"]
            gates = gates_of(plan.resolved, target, name)
            yield Measured(place, adapter["fidelity"], gates, name)
    if entry["fidelity"] and not entry.get("adapters"):
        place = plan.stage(f"verify-{target.name}").final
        yield Measured(place, entry["fidelity"], gates_of(plan.resolved, target))


def _layer_errors(plan: Plan, export: Stage) -> tuple[float, ...]:
    """What rounding left of each layer of a bundle, as far as its calibration measured it."""
    if "quantize" not in export.inputs:
        return ()
    manifest = read_manifest(plan.stage(export.inputs["quantize"]).final)
    return tuple((manifest or {}).get("result", {}).get("layer_errors") or ())


def _missed(one: Measured) -> list[Judged]:
    return [judge for judge in judged_gates(one.facts, one.gates) if judge.state == "missed"]


def _lost(one: Measured) -> dict[str, Any]:
    rows = read_lost(one.folder)
    return {
        "adapter": one.adapter,
        "rows": len(rows),
        "first": [row.where for row in rows[:SHOWN_ROWS]],
        "file": str(one.folder / LOST),
    }


def _measured_already(tried: Sequence[Trial], nbytes: int) -> Iterator[dict[str, Any]]:
    """Bundles of the run that pass, the smallest first."""
    # Of a target that rounds nothing, a comparison of ways to round has the same bundle several times.
    passed = {(one.target.name, one.nbytes): one for one in reversed(tried) if not one.missed}
    for trial in sorted(passed.values(), key=lambda trial: trial.nbytes):
        size = f"{megabytes(trial.nbytes)} instead of {megabytes(nbytes)}"
        why = f"passed all gates when {trial.source} measured it"
        yield _entry(trial.what, trial.overrides, why, size, trial.nbytes, measured=True)


def _not_tried(
    resolved: ResolvedRecipe,
    target: ResolvedTarget,
    found: Sequence[Suggestion],
    tried: Sequence[Trial],
    known: Situation,
    nbytes: int,
) -> Iterator[dict[str, Any]]:
    """Suggestions that make a recipe, and that nothing measured speaks against, the cheapest first."""
    at = resolved.targets.index(target)
    gates = {judge.gate for judge in known.missed}
    told: list[tuple[Suggestion, tuple[str, ...], int | None]] = []
    for one in found:
        overrides = tuple(f"{key}={written_value(value)}" for key, value in one.changes.items())
        changed = checked(resolved, overrides)
        if changed is None:
            continue
        # A budget builds for the target alone.
        own = changed.targets[min(at, len(changed.targets) - 1)]
        if any(trial.alike(changed, own) and trial.settles(gates) for trial in tried):
            continue
        size = None
        if one.cost is Cost.BYTES and own.grid.max_task_kl is own.grid.max_generic_kl is None:
            # What an estimate leaves out, it leaves out of both.
            size = int(nbytes + bundle_bytes(changed, own) - bundle_bytes(resolved, target))
        told.append((one, overrides, size))
    told.sort(key=lambda item: (item[0].cost, item[2] or 0))
    for one, overrides, size in told:
        cost = COST_WORDS[one.cost]
        if size is not None:
            cost = f"about {megabytes(size)} instead of {megabytes(nbytes)}"
        yield _entry(one.what, overrides, one.why, cost, size, measured=False)


def _entry(
    what: str, overrides: Sequence[str], why: str, cost: str, nbytes: int | None, *, measured: bool
) -> dict[str, Any]:
    return {
        "what": what,
        "set": list(overrides),
        "why": why,
        "cost": cost,
        "bytes": nbytes,
        "measured": measured,
    }


def _situation(
    resolved: ResolvedRecipe,
    target: ResolvedTarget,
    first: Measured,
    gates: tuple[Judged, ...],
    layer_errors: Sequence[float],
) -> Situation:
    facts = first.facts
    level_0 = facts.get("accuracy_level_0")
    return Situation(
        recipe=resolved.recipe,
        target=target.asked,
        profile=target.profile,
        grid=target.grid,
        task=resolved.task,
        missed=gates,
        algorithm=target.algorithm if target.profile.bits else "",
        calibrated=target.calibrates(smoothing=False),
        smoothed=target.smooths,
        trained_on=_trained_on(resolved),
        train_rows=len(resolved.train_rows),
        reference_share=facts.get("reference_exact_match"),
        task_kl=facts.get("task_kl"),
        level_0=None if level_0 is None else Level0.model_validate(level_0),
        layer_errors=tuple(layer_errors),
        finer=tuple(_finer(resolved, target)),
    )


def _trained_on(resolved: ResolvedRecipe) -> str | None:
    if resolved.method is not None:
        return resolved.method.chosen_grid(resolved.recipe.method)
    return None if resolved.adapter is None else resolved.adapter.provenance.grid.kind


def _finer(resolved: ResolvedRecipe, target: ResolvedTarget) -> Iterator[TargetProfile]:
    """Targets of the same device with finer weights, or lossless where the adapter was trained on their grid."""
    own, asked = target.profile, {one.name for one in resolved.recipe.targets}
    for profile in all_targets().values():
        if (profile.provider, profile.io_dtype) != (own.provider, own.io_dtype):
            continue
        if profile.name in asked or profile.precision == own.precision:
            continue
        lossless = profile.precision == "nf4"
        if lossless and (own.bits is None or _trained_on(resolved) != "nf4"):
            continue
        if lossless or _WIDTH[profile.precision] > _WIDTH[own.precision]:
            yield profile
