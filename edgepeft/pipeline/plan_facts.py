"""What a plan says of itself in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgepeft.pipeline.plan import Plan
    from edgepeft.pipeline.resolved import ResolvedRecipe
    from edgepeft.pipeline.resources import StageEstimate


def plan_facts(plan: Plan, costs: Sequence[StageEstimate], price: float | None) -> dict[str, Any]:
    """What ``plan --json`` prints of a plan whose stages cost so much."""
    from edgepeft.pipeline.costs import training_memory
    from edgepeft.pipeline.sizes import adapter_parameters, bundle_bytes
    from edgepeft.runs.folder import free_bytes, free_memory
    from edgepeft.training.settings import step_count

    waiting = [cost for cost in costs if not cost.cached]
    seconds = sum(cost.seconds for cost in waiting)
    resolved = plan.resolved
    sources = resolved.sources
    trains, training = resolved.trains, resolved.recipe.training
    return {
        "run": str(plan.run.path),
        "model": resolved.model.as_dict(),
        "train_rows": len(resolved.train_rows),
        "test_rows": len(resolved.test_rows),
        "steps": step_count(training, len(resolved.train_rows)) if trains else None,
        "trainable_parameters": adapter_parameters(resolved) if trains else None,
        "stages": [cost.as_dict() for cost in costs],
        "seconds": round(seconds, 1),
        "peak_memory_bytes": int(max((cost.memory_bytes for cost in waiting), default=0)),
        "free_memory_bytes": free_memory(),
        "training_memory": (
            {part: int(size) for part, size in training_memory(resolved).items()}
            if trains
            else None
        ),
        "disk_bytes": int(sum(cost.disk_bytes for cost in waiting)),
        "free_disk_bytes": free_bytes(plan.run.path),
        "bundles": [
            {"target": target.name, "bytes": int(bundle_bytes(resolved, target))}
            for target in resolved.targets
        ],
        "choices": _choices(resolved),
        "price": None if price is None else round(seconds / 3600 * price, 4),
        "notes": [*resolved.file.decided, *plan.notes],
        **({"sources": [source.as_dict() for source in sources]} if sources else {}),
    }


def _choices(resolved: ResolvedRecipe) -> list[dict[str, Any]]:
    """Every target there is: size and memory its bundle would take, or why this recipe can't have it."""
    from edgepeft.config.target_sections import Target
    from edgepeft.errors import EdgepeftError
    from edgepeft.pipeline.checks.quantization import (
        refuse_other_base,
        refuse_other_grid,
        refuse_symmetric,
    )
    from edgepeft.pipeline.resolved import ResolvedTarget
    from edgepeft.pipeline.sizes import bundle_bytes, device_memory
    from edgepeft.targets import all_targets, find_exporter

    recipe = resolved.recipe
    chosen = {target.name: target for target in resolved.targets}
    found = []
    for profile in all_targets().values():
        target = chosen.get(profile.name)
        try:
            if target is None:
                asked = Target(name=profile.name)
                target = ResolvedTarget(profile, asked, profile.grid(recipe.quantize, {}))
            refuse_other_base(target, recipe.merge.base)
            refuse_other_grid(target, resolved.given)
            refuse_symmetric(target)
            refusal = find_exporter(profile.exporter).refuses(resolved.given)
        except EdgepeftError as error:
            refusal = str(error)
        entry: dict[str, Any] = {"target": profile.name, "refused": refusal}
        if refusal is None and target is not None:
            entry["bytes"] = int(bundle_bytes(resolved, target))
            entry["memory_bytes"] = int(device_memory(resolved, target))
        found.append(entry)
    return found
