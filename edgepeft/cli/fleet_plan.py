"""``edgepeft plan`` for a recipe with a matrix: its cells, and the stages that they share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgepeft.cli.streams import say
from edgepeft.cli.tables import print_table
from edgepeft.pipeline.plan_facts import plan_facts
from edgepeft.utils.quantities import duration, megabytes

if TYPE_CHECKING:
    from edgepeft.config.loader import RecipeFile
    from edgepeft.fleet.tasks import CellPlan, Fleet
    from edgepeft.pipeline.resources import StageEstimate


def show_fleet_plan(
    recipe: RecipeFile,
    folder: Path,
    *,
    until: str,
    as_json: bool,
    price: float | None,
    only: Sequence[str],
) -> None:
    """Print the cells and the stages of a recipe with a matrix. Raises what planning raises."""
    from edgepeft.config.matrix import cells_of, chosen_cells
    from edgepeft.fleet.tasks import plan_fleet
    from edgepeft.pipeline.resources import estimate_stage, measure_flops
    from edgepeft.runs.folder import RunFolder

    cells = chosen_cells(cells_of(recipe), only)
    fleet = plan_fleet(cells, RunFolder(folder.resolve()), until=until)
    rate = measure_flops()
    costs = [
        replace(estimate_stage(task.plan, task.stage, rate), name=task.label)
        for task in fleet.tasks
    ]
    facts = _facts(fleet, costs, price)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _show(fleet, costs, facts)


def _facts(fleet: Fleet, costs: Sequence[StageEstimate], price: float | None) -> dict[str, Any]:
    """What ``plan --json`` prints: of the first cell what is said of a model, of all cells the rest."""
    facts = plan_facts(fleet.plans[0], costs, price)
    for entry, task in zip(facts["stages"], fleet.tasks, strict=True):
        entry["cells"] = task.names
    notes = dict.fromkeys(note for plan in fleet.plans for note in plan.notes)
    return {
        **facts,
        "bundles": [
            {"target": cell.cell.target, "bytes": _bundle_bytes(cell), "cell": cell.name}
            for cell in fleet.cells
            if cell.plan is not None
        ],
        "notes": list(notes),
        "cells": [
            {
                "cell": cell.name,
                "choices": dict(cell.cell.choices),
                "target": cell.cell.target,
                "stages": [task.label for task in fleet.tasks if cell in task.cells],
                "error": str(cell.error) if cell.error is not None else None,
            }
            for cell in fleet.cells
        ],
    }


def _bundle_bytes(cell: CellPlan) -> int:
    from edgepeft.pipeline.sizes import bundle_bytes

    assert cell.plan is not None
    (target,) = cell.plan.resolved.targets
    return int(bundle_bytes(cell.plan.resolved, target))


def _show(fleet: Fleet, costs: Sequence[StageEstimate], facts: dict[str, Any]) -> None:
    model = fleet.plans[0].resolved.model
    names = ", ".join(dict.fromkeys(plan.resolved.base_name for plan in fleet.plans))
    say(f"model    {names}: {model.architecture}, {model.parameters / 1e6:.0f} M parameters")
    cached = {cost.name for cost in costs if cost.cached}
    rows = []
    for cell in fleet.cells:
        if cell.plan is None:
            rows.append([cell.name, "–", "–", "–", str(cell.error)])
            continue
        own = [task for task in fleet.tasks if cell in task.cells]
        left = [task for task in own if task.label not in cached]
        shared = sum(len(task.cells) > 1 for task in own)
        size = megabytes(_bundle_bytes(cell))
        rows.append([cell.name, str(len(left)), str(shared), size, "" if left else "there"])
    print_table(["cell", "stages to do", "shared", "bundle", ""], rows)
    print_table(
        ["stage", "cells", "memory", "disk", "time"],
        [
            [cost.name, str(len(task.cells)), "–", "–", "reused"]
            if cost.cached
            else [
                cost.name,
                str(len(task.cells)),
                megabytes(cost.memory_bytes),
                megabytes(cost.disk_bytes),
                "~" + duration(cost.seconds),
            ]
            for task, cost in zip(fleet.tasks, costs, strict=True)
        ],
    )
    alone = sum(len(task.cells) for task in fleet.tasks)
    say(
        f"in all   {len(fleet.tasks)} stages where cells alone would take {alone}; about "
        f"{duration(facts['seconds'])} one after another, largest {megabytes(facts['peak_memory_bytes'])} "
        f"of memory, disk {megabytes(facts['disk_bytes'])} of {megabytes(facts['free_disk_bytes'])} free"
    )
    if facts["price"] is not None:
        say(f"price    {facts['price']:.2f}")
    for note in facts["notes"]:
        say(f"note     {note}", err=True)
