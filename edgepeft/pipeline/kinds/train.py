"""The train stage: an adapter for the recipe's task, where none is given."""

from __future__ import annotations

from collections.abc import Iterator

from edgepeft.pipeline.costs import START, tokens_per_row, training_memory
from edgepeft.pipeline.inputs import Inputs
from edgepeft.pipeline.kinds.spec import PlannedStage, StageSpec
from edgepeft.pipeline.resolved import ResolvedRecipe
from edgepeft.pipeline.sizes import adapter_elements
from edgepeft.stages.needs import MODEL
from edgepeft.training.settings import TrainSettings, step_count


def _plan(resolved: ResolvedRecipe, read: Inputs) -> Iterator[PlannedStage]:
    if not resolved.trains:
        return
    recipe = resolved.recipe
    files = {"train": read.file(recipe.data.train)}
    if recipe.data.test is not None and recipe.training.eval_rows:
        files["test"] = read.file(recipe.data.test_file)
    config = recipe.training.accelerate_config
    found = None if config is None else str(resolved.file.resolve(config))
    settings = TrainSettings(
        task=resolved.task,
        method=recipe.method,
        training=recipe.training.model_copy(update={"accelerate_config": found}),
        data=read.data("max_test_rows"),
        base_name=resolved.base_name,
        run_name=resolved.file.name,
        tracking=str(read.tracking),
    )
    yield PlannedStage("train", settings, {"base": "base"}, {**files, **read.template()})


def _memory(resolved: ResolvedRecipe) -> float:
    return sum(training_memory(resolved).values())


def _disk(resolved: ResolvedRecipe, name: str) -> float:
    # Adapter, and two checkpoints that each hold it with both moments of the optimizer.
    return adapter_elements(resolved) * 4 * 7


def _seconds(resolved: ResolvedRecipe, flops: float) -> float:
    training, data = resolved.recipe.training, resolved.recipe.data
    # Processes of one machine share its rate; those of other hosts bring their own.
    rows = training.batch_size * training.gradient_accumulation * resolved.local_processes
    steps = step_count(training, len(resolved.train_rows))
    tokens = steps * rows * tokens_per_row(resolved.train_rows, data.max_length)
    # Forward and backward without weight gradients: 4 operations a weight and token; half the peak rate.
    return START + tokens * resolved.model.parameters * 4 / (0.5 * flops)


TRAIN = StageSpec(
    kind="train",
    version=6,
    settings=TrainSettings,
    functions={"": "edgepeft.training.stage:run"},
    needs={"train": (*MODEL, "peft", "trl", "bitsandbytes", "datasets")},
    plan=_plan,
    memory=_memory,
    disk=_disk,
    seconds=_seconds,
)
