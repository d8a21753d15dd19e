"""``edgepeft plan``: what a recipe will do and roughly cost, before anything starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgepeft.cli.options import (
    AdapterOption,
    DataOption,
    JsonOption,
    ModelOption,
    OnlyOption,
    OutOption,
    RecipeArgument,
    SetOption,
    StepsOption,
    TargetOption,
)
from edgepeft.cli.recipe_choice import Short, check_matrix, recipe_from
from edgepeft.cli.streams import say
from edgepeft.pipeline.plan_facts import plan_facts

if TYPE_CHECKING:
    from edgepeft.config.loader import RecipeFile


def command(
    recipe: RecipeArgument = None,
    overrides: SetOption = None,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    data: DataOption = None,
    target: TargetOption = None,
    steps: StepsOption = None,
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
    from edgepeft.config.run_recipe import run_folder

    loaded = recipe_from(recipe, overrides, Short(model, adapter, data, target, steps))
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
    from edgepeft.cli.tables import print_table
    from edgepeft.pipeline.planner import make_plan
    from edgepeft.pipeline.resources import estimate
    from edgepeft.pipeline.sizes import adapter_parameters, bundle_bytes
    from edgepeft.runs.folder import RunFolder, free_bytes
    from edgepeft.training.settings import step_count
    from edgepeft.utils.quantities import duration, megabytes

    plan = make_plan(recipe, RunFolder(folder.resolve()), until=until)
    costs = estimate(plan)
    facts = plan_facts(plan, costs, price)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    resolved = plan.resolved
    model = resolved.model
    say(
        f"model    {resolved.base_name}: {model.architecture}, {model.parameters / 1e6:.0f} M parameters, "
        f"{model.dtype}{', tied embeddings' if model.tied_embeddings else ''}"
    )
    say(f"data     {len(resolved.train_rows)} training rows, {len(resolved.test_rows)} test rows")
    parts = recipe.recipe.adapter
    if parts is None:
        method, training = recipe.recipe.method, recipe.recipe.training
        common = resolved.method.common(method) if resolved.method else {}
        rank = f", rank {common['rank']}" if "rank" in common else ""
        count, processes = adapter_parameters(resolved), training.processes
        together = f" of {processes} processes" if processes > 1 else ""
        size = "" if count is None else f", about {count / 1e6:.1f} M trainable parameters"
        steps = step_count(training, len(resolved.train_rows))
        say(f"method   {method.name}{rank}{size}, {steps} steps{together}")
    elif resolved.adapter is not None:
        say(f"adapter  {resolved.adapter.path}")
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
    for target in resolved.targets:
        say(f"bundle   {target.name}: about {megabytes(bundle_bytes(resolved, target))}")
    say(
        f"in all   about {duration(facts['seconds'])}, peak memory {megabytes(facts['peak_memory_bytes'])}, "
        f"disk {megabytes(facts['disk_bytes'])} of {megabytes(free_bytes(folder))} free"
    )
    if price is not None:
        say(f"price    {facts['price']:.2f} at {price:g} per hour")
    for note in facts["notes"]:
        say(f"note     {note}", err=True)
