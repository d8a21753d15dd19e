"""From a recipe to the stages that carry it out: inputs read, what can be checked checked, stages laid out.

No heavy library is imported on the way, so that a mistake is told within a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgepeft.adapters.base_needs import as_staged, check_tokens, needs_of
from edgepeft.adapters.overview import BaseNeeds
from edgepeft.bundle.layout import check_layout
from edgepeft.checkpoints.rotary import rotary_switch
from edgepeft.config.loader import RecipeFile
from edgepeft.config.target_sections import Quantize, Target
from edgepeft.data.rows import Row
from edgepeft.evaluation.witness.exact import graph_form
from edgepeft.models import ModelInfo, find_model, inspect_model
from edgepeft.models.checks import check_label_head
from edgepeft.models.task_resolution import labels_of, resolve_task
from edgepeft.models.tasks import GENERATION, Task
from edgepeft.pipeline.layout import Layout
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
from edgepeft.quantization.algorithms import (
    AUTO,
    check_algorithm,
    is_calibrated,
    resolve_algorithm,
)
from edgepeft.runs.folder import RunFolder
from edgepeft.stages.job import Stage
from edgepeft.stages.registry import ENCODER, ORDER, require_libraries
from edgepeft.targets import GRID_KEYS, TargetProfile, check_architecture, resolve_target


@dataclass
class Plan:
    """The stages of a recipe in order, and what was learned of its inputs on the way.

    ``model`` is the base as it is staged: where an adapter brings another vocabulary or a head of its own, its
    sizes are those. ``grids`` is how each target's weights are rounded, by the target's name; ``labels`` are a
    classifier's.
    """

    recipe: RecipeFile
    run: RunFolder
    model: ModelInfo
    base_name: str
    targets: list[TargetProfile]
    grids: dict[str, Quantize]
    train_rows: list[Row]
    test_rows: list[Row]
    adapter: Path | None
    task: Task = GENERATION
    labels: list[str] = field(default_factory=list)
    needs: BaseNeeds = field(default_factory=BaseNeeds)
    stages: list[Stage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def stage(self, name: str) -> Stage:
        """A stage of the plan by name."""
        return next(stage for stage in self.stages if stage.name == name)

    def quantize_stage(self, target: TargetProfile) -> str:
        """The name of the stage that rounds a target's weights; what sets it apart from the recipe's is in it."""
        asked, taken = self.recipe.recipe.quantize, self.grids[target.name]
        name = f"quantize-{target.precision}"
        if self.swaps(target):
            name += "-base"
        if not target.bits:
            return name
        for key in ("algorithm", *GRID_KEYS):
            value = getattr(taken, key)
            if value != getattr(asked, key):
                name += f"-{key.replace('_size', '')}-{str(value).lower()}"
        return name

    def float_graph(self, target: TargetProfile) -> str:
        """The name of the stage that holds the float form of a target's graph against the second witness."""
        return f"float-graph-{target.name if self.swaps(target) else graph_form(target)}"

    def swaps(self, target: TargetProfile) -> bool:
        """Whether a target's bundle takes adapters instead of having one merged."""
        return self.asked(target).adapters == "hot-swap"

    def asked(self, target: TargetProfile) -> Target:
        """What the recipe says of a target."""
        return next(one for one in self.recipe.recipe.targets if one.name == target.name)

    def smooths(self, target: TargetProfile) -> bool:
        """Whether a target's weights are smoothed before they are rounded."""
        quantize = self.grids[target.name]
        if not target.bits or self.swaps(target) or self.task != GENERATION:
            return False
        if quantize.smooth is not None:
            return quantize.smooth
        return target.bits == 8 and quantize.algorithm == AUTO

    def calibrates(self, target: TargetProfile, *, smoothing: bool = True) -> bool:
        """Whether rounding a target's weights looks at calibration data; with or without what smoothing does."""
        quantize = self.grids[target.name]
        return bool(target.bits) and (
            is_calibrated(resolve_algorithm(quantize.algorithm, target.bits or 0))
            or quantize.budget is not None
            or quantize.learn_steps > 0
            or (smoothing and self.smooths(target))
        )

    def kind(self, kind: str) -> list[Stage]:
        """The stages of one kind."""
        return [stage for stage in self.stages if stage.kind == kind]


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
    Layout(plan, until, bundles_apart).lay_out()
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
