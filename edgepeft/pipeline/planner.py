"""From a recipe to the stages that carry it out: inputs read, what can be checked checked, stages laid out.

No heavy library is imported on the way, so that a mistake is told within a second.
"""

from __future__ import annotations

from edgepeft.adapters.base_needs import as_staged, check_tokens, needs_of
from edgepeft.bundle.layout import check_layout
from edgepeft.checkpoints.rotary import rotary_switch
from edgepeft.config.loader import RecipeFile
from edgepeft.models import find_model, inspect_model
from edgepeft.models.checks import check_label_head
from edgepeft.models.task_resolution import labels_of, resolve_task
from edgepeft.models.tasks import GENERATION
from edgepeft.pipeline.layout import Layout
from edgepeft.pipeline.plan import Plan
from edgepeft.pipeline.proof_layout import ProofLayout
from edgepeft.pipeline.validate import (
    adapter_of,
    check_budget,
    check_combination_of,
    check_hot_swap,
    check_length,
    check_model,
    check_prefix,
    check_rows,
    check_smoothing,
    check_target,
    check_task,
    check_training,
    for_task,
    rows_of,
)
from edgepeft.quantization.algorithms import check_algorithm
from edgepeft.runs.folder import RunFolder
from edgepeft.stages.registry import ENCODER, ORDER, require_libraries
from edgepeft.targets import GRID_KEYS, TargetProfile, check_architecture, resolve_target


def make_plan(
    recipe: RecipeFile, run: RunFolder, *, until: str = "verify", bundles_apart: bool = False
) -> Plan:
    """Check a recipe's inputs and lay out its stages up to ``until``. Raises InputError, MissingError.

    With ``bundles_apart`` bundles go among the stages, each under its key, so that several for one target live
    side by side and the run's own stay as they are.
    """
    settings = recipe.recipe
    kinds = ORDER[: ORDER.index(until) + 1]
    require_libraries(kind for kind in kinds if kind != "train" or settings.adapter is None)
    check_combination_of(recipe)
    targets = [resolve_target(target) for target in settings.targets]
    grids = {
        target.name: target.grid(
            settings.quantize, asked.quantize.model_dump(mode="json", exclude_none=True)
        )
        for target, asked in zip(targets, settings.targets, strict=True)
    }
    for name in {settings.quantize.algorithm, *(grid.algorithm for grid in grids.values())}:
        check_algorithm(name)
    if settings.adapter is None:
        check_training(recipe)
    for target in targets:
        check_target(target, grids[target.name], recipe)
    check_hot_swap(recipe, targets, recipe.adapter_name)
    path = find_model(settings.model, recipe.folder)
    model = inspect_model(path)
    check_architecture(model, targets, settings.model)
    adapter = adapter_of(recipe)
    check_prefix(recipe, model)
    train, test, unused = rows_of(recipe, test="witness" in kinds)
    task = resolve_task(settings.task, model, [*train, *test])
    targets = [for_task(target, task) for target in targets]
    if task != GENERATION and "export" in kinds:
        require_libraries(["export"], ENCODER)
    check_model(model, targets, settings.model)
    check_task(recipe, task, train)
    check_label_head(model, task)
    needs, notes = needs_of(recipe, model, task, adapter)
    model = as_staged(model, needs, task)
    check_tokens(recipe, model, needs)
    check_length(recipe, model)
    if task == GENERATION:
        check_rows(recipe, model, train, test)
    check_layout(
        settings.layout,
        task,
        {target.name: target.js_dtype for target in targets},
        [target.name for target in settings.targets if target.adapters == "hot-swap"],
        rotary_switch(model.config),
    )
    check_budget(recipe, targets, model)
    check_smoothing(recipe, targets, task)
    labels = labels_of(task, model, settings.data.labels, train, test)
    named = recipe.resolve(settings.model) != path
    plan = Plan(
        recipe=recipe,
        run=run,
        model=model,
        base_name=settings.model if named else path.name,
        targets=targets,
        grids=grids,
        train_rows=train,
        test_rows=test,
        adapter=adapter,
        task=task,
        labels=labels,
        needs=needs,
        notes=[*recipe.notes, *notes, *unused],
    )
    plan.notes += [note for target in targets for note in _notes(target, plan)]
    layout = Layout(plan, until, bundles_apart)
    steps = {**layout.steps, **ProofLayout(layout, plan).steps}
    for kind in kinds:
        steps[kind]()
    layout.read.save()
    return plan


def _notes(target: TargetProfile, plan: Plan) -> list[str]:
    """Where a device's kernels made a target leave the recipe's defaults."""
    asked, taken = plan.recipe.recipe.quantize, plan.grids[target.name]
    own = plan.asked(target).quantize
    changed = {
        key: getattr(taken, key)
        for key in GRID_KEYS
        if getattr(taken, key) not in (getattr(asked, key), getattr(own, key))
    }
    if not changed:
        return []
    what = ", ".join(f"{key}: {str(value).lower()}" for key, value in changed.items())
    return [f"{target.name}: quantize uses {what}, as its kernels need"]
