"""What a plan says of itself in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgepeft.pipeline.plan import Plan
    from edgepeft.pipeline.resources import StageEstimate


def plan_facts(plan: Plan, costs: Sequence[StageEstimate], price: float | None) -> dict[str, Any]:
    """What ``plan --json`` prints of a plan whose stages cost so much."""
    from edgepeft.pipeline.costs import steps, training_memory
    from edgepeft.pipeline.sizes import adapter_parameters, bundle_bytes
    from edgepeft.runs.folder import free_bytes, free_memory

    waiting = [cost for cost in costs if not cost.cached]
    seconds = sum(cost.seconds for cost in waiting)
    trains = plan.recipe.recipe.adapter is None
    return {
        "run": str(plan.run.path),
        "model": plan.model.as_dict(),
        "train_rows": len(plan.train_rows),
        "test_rows": len(plan.test_rows),
        "steps": steps(plan) if trains else None,
        "trainable_parameters": adapter_parameters(plan) if trains else None,
        "stages": [cost.as_dict() for cost in costs],
        "seconds": round(seconds, 1),
        "peak_memory_bytes": int(max((cost.memory_bytes for cost in waiting), default=0)),
        "free_memory_bytes": free_memory(),
        "training_memory": (
            {part: int(size) for part, size in training_memory(plan).items()} if trains else None
        ),
        "disk_bytes": int(sum(cost.disk_bytes for cost in waiting)),
        "free_disk_bytes": free_bytes(plan.run.path),
        "bundles": [
            {"target": target.name, "bytes": int(bundle_bytes(plan, target))}
            for target in plan.targets
        ],
        "choices": _choices(plan),
        "price": None if price is None else round(seconds / 3600 * price, 4),
        "notes": plan.notes,
    }


def _choices(plan: Plan) -> list[dict[str, Any]]:
    """Every target there is: size and memory its bundle would take, or why this recipe can't have it."""
    from edgepeft.errors import EdgepeftError
    from edgepeft.pipeline.sizes import bundle_bytes, device_memory
    from edgepeft.pipeline.validate import check_target
    from edgepeft.targets import all_targets, find_exporter

    found = []
    for target in all_targets().values():
        try:
            grid = plan.grids.get(target.name) or target.grid(plan.recipe.recipe.quantize, {})
            check_target(target, grid, plan.recipe)
            refusal = find_exporter(target.exporter).refuses(plan.model)
        except EdgepeftError as error:
            refusal = str(error)
        entry: dict[str, Any] = {"target": target.name, "refused": refusal}
        if refusal is None:
            plan = replace(plan, grids={**plan.grids, target.name: grid})
            entry["bytes"] = int(bundle_bytes(plan, target))
            entry["memory_bytes"] = int(device_memory(plan, target))
        found.append(entry)
    return found
