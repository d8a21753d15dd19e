"""``edgepeft plan``: what a recipe will do and roughly cost, before anything starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgepeft.cli.options import (
    AdapterOption,
    JsonOption,
    ModelOption,
    OnlyOption,
    OutOption,
    RecipeArgument,
    SetOption,
    check_matrix,
    recipe_from,
    run_folder,
)
from edgepeft.cli.streams import say

if TYPE_CHECKING:
    from edgepeft.config.loader import RecipeFile
    from edgepeft.pipeline.plan import Plan
    from edgepeft.pipeline.resources import StageEstimate


def command(
    recipe: RecipeArgument = None,
    overrides: SetOption = None,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    out: OutOption = None,
    price: Annotated[
        float | None,
        typer.Option(
            "--price", min=0, help="Price of this machine per hour, to estimate the cost."
        ),
    ] = None,
    only: OnlyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a build would do: stages, memory, disk, time, bundle sizes, and what can be reused."""
    loaded = recipe_from(recipe, overrides, model, adapter)
    check_matrix(loaded, {"--only": only})
    folder = run_folder(loaded, out, recipe)
    show_plan(loaded, folder, until="verify", as_json=as_json, price=price, only=only)


def show_plan(
    recipe: RecipeFile,
    folder: Path,
    *,
    until: str,
    as_json: bool,
    price: float | None = None,
    only: Sequence[str] | None = None,
) -> None:
    """Print the plan of a recipe as a table or as JSON. Raises what planning raises."""
    if recipe.recipe.matrix:
        from edgepeft.cli.fleet_plan import show_fleet_plan

        show_fleet_plan(recipe, folder, until=until, as_json=as_json, price=price, only=only or [])
        return
    from edgepeft.adapters.methods import find_method
    from edgepeft.cli.progress import duration
    from edgepeft.cli.tables import megabytes, print_table
    from edgepeft.pipeline.costs import steps
    from edgepeft.pipeline.plan import make_plan
    from edgepeft.pipeline.resources import estimate
    from edgepeft.pipeline.sizes import adapter_parameters, bundle_bytes
    from edgepeft.runs.folder import RunFolder, free_bytes

    plan = make_plan(recipe, RunFolder(folder.resolve()), until=until)
    costs = estimate(plan)
    facts = plan_facts(plan, costs, price)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    model = plan.model
    say(
        f"model    {plan.base_name}: {model.architecture}, {model.parameters / 1e6:.0f} M parameters, "
        f"{model.dtype}{', tied embeddings' if model.tied_embeddings else ''}"
    )
    say(f"data     {len(plan.train_rows)} training rows, {len(plan.test_rows)} test rows")
    parts = recipe.recipe.adapter
    if parts is None:
        method = recipe.recipe.method
        common = find_method(method.name).common(method.model_dump())
        rank = f", rank {common['rank']}" if "rank" in common else ""
        count, processes = adapter_parameters(plan), recipe.recipe.training.processes
        together = f" of {processes} processes" if processes > 1 else ""
        size = "" if count is None else f", about {count / 1e6:.1f} M trainable parameters"
        say(f"method   {method.name}{rank}{size}, {steps(plan)} steps{together}")
    elif plan.adapter is not None:
        say(f"adapter  {plan.adapter}")
    elif not isinstance(parts, str):
        named = ", ".join(f"{part.path} x {part.weight:g}" for part in parts)
        say(f"adapter  {named}, combined by {recipe.recipe.combine.method}")
    print_table(
        ["stage", "memory", "disk", "time"],
        [
            [cost.name, "–", "–", "reused"]
            if cost.cached
            else [
                cost.name,
                megabytes(cost.memory_bytes),
                megabytes(cost.disk_bytes),
                "~" + duration(cost.seconds),
            ]
            for cost in costs
        ],
    )
    for target in plan.targets:
        say(f"bundle   {target.name}: about {megabytes(bundle_bytes(plan, target))}")
    say(
        f"in all   about {duration(facts['seconds'])}, peak memory {megabytes(facts['peak_memory_bytes'])}, "
        f"disk {megabytes(facts['disk_bytes'])} of {megabytes(free_bytes(folder))} free"
    )
    if price is not None:
        say(f"price    {facts['price']:.2f} at {price:g} per hour")
    for note in plan.notes:
        say(f"note     {note}", err=True)


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
