"""What a recipe asks of an encoder that only models that generate have."""

from __future__ import annotations

from edgepeft.errors import InputError
from edgepeft.models.dense_files import check_chain
from edgepeft.models.sentence_files import read_sentence_files
from edgepeft.models.tasks import EMBEDDING, ENCODER_TASKS, GENERATION
from edgepeft.pipeline.resolved import ResolvedRecipe


def check_keys(resolved: ResolvedRecipe) -> None:
    """Keys that are for text generation, and labels of what has none."""
    recipe, task = resolved.recipe, resolved.task
    labelled = task != GENERATION and ENCODER_TASKS[task].labelled
    if not labelled and recipe.data.labels:
        raise InputError(f"data.labels: {task} has no labels; remove them")
    if task == GENERATION:
        return
    for target in resolved.targets:
        if target.swaps:
            raise InputError(
                f"targets: {target.name}: adapters: hot-swap is for text generation, not for {task}"
            )
    refusals = {
        "data.tokens": bool(recipe.data.tokens),
        "data.system": recipe.data.system is not None,
        "data.template": recipe.data.template not in ("auto", "plain"),
        "answer.json_schema": recipe.answer.json_schema is not None,
        "data.generic": recipe.data.generic is not None,
        f"quantize.{recipe.quantize.budget}": recipe.quantize.budget is not None,
        "training.objective": recipe.training.objective != "supervised",
        "adapter": isinstance(recipe.adapter, list),
    }
    for key, given in refusals.items():
        if given:
            what = "a list of adapters" if key == "adapter" else "this key"
            raise InputError(f"{key}: {what} is for text generation, not for {task}; remove it")


def check_vectors(resolved: ResolvedRecipe) -> None:
    """``model``: linear layers that don't take the vectors that the model gives."""
    if resolved.task == EMBEDDING:
        folder = resolved.needs.sentence or resolved.given.path
        pooling = read_sentence_files(folder).pooling
        check_chain(folder, pooling.dense, resolved.given.hidden_size)


def check_training(resolved: ResolvedRecipe) -> None:
    """``data.train``: too few pairs; ``method.name``: what leaves a classifier's head as it is."""
    method, task = resolved.method, resolved.task
    if method is None:
        return
    if task == EMBEDDING and len(resolved.train_rows) < 2:
        raise InputError("data.train: embeddings need at least two pairs")
    headed = task != GENERATION and ENCODER_TASKS[task].has_head
    if headed and method.peft_type is not None and "modules_to_save" not in method.options:
        raise InputError(
            f"method.name: {method.name} can't train the classification head; use lora, qlora or dora"
        )
