"""What can be said against a recipe before anything is loaded: one line each, naming the key and the mend."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgepeft.adapters.config import carried_as, read_adapter_config, refuse_head
from edgepeft.adapters.folder import find_adapter
from edgepeft.adapters.method import trains_rows
from edgepeft.adapters.methods import check_method, find_method
from edgepeft.combination.methods import REGMEAN, Combination, check_combination
from edgepeft.config.loader import RecipeFile
from edgepeft.config.sections import Data
from edgepeft.config.target_sections import Quantize
from edgepeft.data.formats import read_file
from edgepeft.data.row_checks import check_objective, refuse_empty
from edgepeft.data.rows import Row
from edgepeft.data.template_checks import render_kinds
from edgepeft.errors import InputError
from edgepeft.models import ModelInfo
from edgepeft.models.checks import check_head_size, check_headers
from edgepeft.models.tasks import CLASSIFICATION, EMBEDDING, GENERATION, TAGGING, Task
from edgepeft.runtime.adapters import check_name
from edgepeft.runtime.devices import CPU
from edgepeft.targets import TargetProfile, find_exporter
from edgepeft.training.hosts import processes_here

_PLAIN_STARTS = ("gaussian", "orthogonal")


def check_training(recipe: RecipeFile) -> None:
    """Hold method and objective against what they can do, before anything is loaded."""
    settings = recipe.recipe
    method = check_method(settings.method.model_dump(mode="json"))
    refuse_head(settings.method.target_modules, "method.target_modules")
    if settings.data.tokens and not trains_rows(method, settings.method.options):
        raise InputError(
            f"data.tokens: {method.name} does not train the embeddings of new tokens; use lora, qlora, dora or "
            "trainable_tokens, or add embed_tokens to method.options.modules_to_save"
        )
    processes_here(recipe)
    start = settings.method.options.get("init_lora_weights")
    if settings.training.objective == "preference" and (
        method.peft_type != "LORA" or (isinstance(start, str) and start not in _PLAIN_STARTS)
    ):
        raise InputError(
            "training.objective: preference needs the unchanged base model as its reference; use lora, qlora, "
            "rslora or dora with their default init_lora_weights"
        )


def check_target(target: TargetProfile, quantize: Quantize, recipe: RecipeFile) -> None:
    """Raise InputError if the recipe asks of a target, whose grid is ``quantize``, what it has not."""
    if target.precision == "nf4" and recipe.recipe.merge.base != "dequantized":
        raise InputError(
            f"merge.base: {target.name} contains the base that the adapter was trained on; set it to dequantized"
        )
    if target.bits and quantize.algorithm == "k_quant" and quantize.symmetric:
        raise InputError("quantize.symmetric: k_quant has no symmetric variant; set it to false")


def check_hot_swap(recipe: RecipeFile, targets: Sequence[TargetProfile], own: str) -> None:
    """Raise InputError where a target can't swap adapters, or an adapter can't be swapped; ``own`` is the name of
    the recipe's own adapter.
    """
    settings = recipe.recipe
    swapped = [
        target
        for target, asked in zip(targets, settings.targets, strict=True)
        if asked.adapters == "hot-swap"
    ]
    for target in swapped:
        if target.provider != CPU:
            raise InputError(
                f"targets: {target.name}: adapters: hot-swap works on CPU targets only; leave it out, or choose "
                "a CPU target"
            )
    if not swapped:
        return
    if settings.merge.base == "requantized":
        raise InputError(
            "merge.base: requantized needs a merge, and hot-swap targets merge nothing; remove it"
        )
    if settings.adapter is None:
        method = find_method(settings.method.name)
        if method.peft_type != "LORA" or {**method.fixed, **settings.method.options}.get(
            "use_dora"
        ):
            raise InputError(
                f"method.name: hot-swap targets can't load adapters of {method.name}; use lora, qlora or rslora"
            )
        rank = int(method.common(settings.method.model_dump())["rank"])
        for asked in settings.targets:
            if asked.adapters == "hot-swap" and rank > asked.adapter_rank:
                raise InputError(
                    f"targets: {asked.name}: adapter_rank: {asked.adapter_rank} is lower than method.rank, "
                    f"{rank}; raise it"
                )
    for adapter in settings.adapters:
        check_name(adapter.name)
        if adapter.name == own:
            raise InputError(
                f"adapters: {own}: is the name of the recipe's own adapter; choose another name"
            )
        read_adapter_config(find_adapter(recipe.resolve(adapter.path)))


def check_smoothing(recipe: RecipeFile, targets: Sequence[TargetProfile], task: Task) -> None:
    """Raise InputError where smoothing is asked for and can't be had."""
    settings = recipe.recipe
    if not settings.quantize.smooth:
        return
    if task != GENERATION:
        raise InputError("quantize.smooth: works for text generation only; leave it out")
    for target, asked in zip(targets, settings.targets, strict=True):
        if asked.adapters == "hot-swap":
            raise InputError(
                f"quantize.smooth: would change what the adapters of {target.name} were trained on; leave out "
                "smooth or adapters: hot-swap"
            )


def check_model(model: ModelInfo, targets: Sequence[TargetProfile], named: str) -> None:
    """Raise InputError if a target can't do a model; ``named`` is what the recipe calls it."""
    model.require_sizes()
    for name in {target.exporter for target in targets}:
        refusal = find_exporter(name).refuses(model)
        if refusal:
            raise InputError(f"model: {named}: {refusal}")
    check_headers(model)
    if any(target.exporter == "decoder" for target in targets):
        check_head_size(model)
    for target in targets:
        for key in target.ignored:
            if model.config.get(key):
                raise InputError(
                    f"targets: {target.name}: {target.provider} ignores {key}, which {model.architecture} needs; "
                    "choose another target"
                )


def check_length(recipe: RecipeFile, model: ModelInfo) -> None:
    """Refuse rows longer than the model's context, where they were asked for; the default gives way to it."""
    asked, default = recipe.recipe.data.max_length, Data.model_fields["max_length"].default
    if asked != default and asked > model.context_length:
        raise InputError(
            f"data.max_length: {asked} is longer than the model's context, {model.context_length} tokens; lower "
            "it"
        )


def check_prefix(recipe: RecipeFile, model: ModelInfo) -> None:
    """A prefix is learned for one rotation of positions; raise InputError where a prompt's length chooses it."""
    settings = recipe.recipe
    if isinstance(settings.adapter, str):
        key = "adapter"
        carried = carried_as(read_adapter_config(find_adapter(recipe.resolve(settings.adapter))))
    else:
        key = "method.name"
        carried = find_method(settings.method.name).carried
    rotary = [model.config.get(name) or {} for name in ("rope_parameters", "rope_scaling")]
    kinds = {one.get("rope_type") or one.get("type") for one in rotary}
    if carried == "prefix" and "longrope" in kinds:
        raise InputError(
            f"{key}: prefix tuning does not work with the longrope of {model.architecture}, whose positions "
            "depend on the length of the prompt; use prompt_tuning"
        )


def for_task(target: TargetProfile, task: Task) -> TargetProfile:
    """The target with the exporter that the task calls for. Raises InputError where it only serves generation."""
    if task == GENERATION or target.exporter != "decoder":
        return target
    if target.precision == "nf4" or target.weight_layout != "nbits" or target.io_dtype == "bf16":
        raise InputError(
            f"targets: {target.name}: is for text generation only; for {task} choose a target such as cpu-int8, "
            "cpu-int4, cpu-fp32, webgpu-int4-fp32 or cuda-fp16"
        )
    return replace(target, exporter="encoder")


def check_task(recipe: RecipeFile, task: Task, train: Sequence[Row]) -> None:
    """Refuse what a recipe asks of an encoder that only models that generate have, and too few rows for it."""
    settings = recipe.recipe
    if task not in (CLASSIFICATION, TAGGING) and settings.data.labels:
        raise InputError(f"data.labels: {task} has no labels; remove them")
    if task == GENERATION:
        return
    for target in settings.targets:
        if target.adapters == "hot-swap":
            raise InputError(
                f"targets: {target.name}: adapters: hot-swap is for text generation, not for {task}"
            )
    refusals = {
        "data.tokens": bool(settings.data.tokens),
        "data.system": settings.data.system is not None,
        "data.template": settings.data.template not in ("auto", "plain"),
        "data.generic": settings.data.generic is not None,
        f"quantize.{settings.quantize.budget}": settings.quantize.budget is not None,
        "training.objective": settings.training.objective != "supervised",
        "adapter": isinstance(settings.adapter, list),
    }
    for key, given in refusals.items():
        if given:
            what = "a list of adapters" if key == "adapter" else "this key"
            raise InputError(f"{key}: {what} is for text generation, not for {task}; remove it")
    if settings.adapter is None and task == EMBEDDING and len(train) < 2:
        raise InputError("data.train: an embeddings need at least two pairs")
    if settings.adapter is None and task in (CLASSIFICATION, TAGGING):
        method = check_method(settings.method.model_dump(mode="json"))
        if method.peft_type is not None and "modules_to_save" not in method.options:
            raise InputError(
                f"method.name: {method.name} can't train the classification head; use lora, qlora or dora"
            )


def check_budget(recipe: RecipeFile, targets: list[TargetProfile], model: ModelInfo) -> None:
    """Refuse what no choice of grids can reach, before anything is trained."""
    quantize, data = recipe.recipe.quantize, recipe.recipe.data
    if quantize.budget is None:
        return
    for target in targets:
        if target.weight_layout != "nbits":
            raise InputError(
                f"quantize.{quantize.budget}: chooses a grid for each layer, and {target.name} supports one grid "
                "only; remove it"
            )
        if target.precision != "int4":
            raise InputError(
                f"quantize.{quantize.budget}: chooses between 4 and 8 bits, and the precision of {target.name} "
                "is fixed; use int4 targets only"
            )
    if quantize.max_task_kl is not None and (
        data.train is None or quantize.calibration.task_share == 0
    ):
        raise InputError(
            "quantize.max_task_kl: is measured on rows of data.train; give data.train, and set "
            "quantize.calibration.task_share above 0"
        )
    if quantize.max_generic_kl is not None and quantize.calibration.task_share == 1:
        raise InputError(
            "quantize.max_generic_kl: is measured on generic text; set quantize.calibration.task_share below 1"
        )
    budget = quantize.max_bytes
    if budget is None:
        return
    # Four bits, and half-precision scales with zero points over blocks of 128.
    least = int(model.parameters * (0.5 + 2.5 / 128))
    if budget < least:
        raise InputError(
            f"quantize.max_bytes: {budget} is out of reach; the 4-bit weights alone take {least} bytes"
        )


def check_combination_of(recipe: RecipeFile) -> None:
    """Hold a list of adapters and the combine section against each other."""
    parts, combine = recipe.recipe.adapter, recipe.recipe.combine
    if isinstance(parts, list):
        how = Combination(
            combine.method, tuple(part.weight for part in parts), combine.density, combine.rank
        )
        fits = combine.method == REGMEAN
        for index, part in enumerate(parts):
            if fits and part.rows is None:
                raise InputError(
                    f"adapter.{index}.rows: regmean needs rows of every adapter's task; name their file"
                )
            if part.rows is not None and not fits:
                raise InputError(
                    f"adapter.{index}.rows: is used by combine.method regmean only; remove it"
                )
        try:
            check_combination(how, len(parts), rows=fits)
        except InputError as error:
            said = str(error).replace("--weights", "adapter.weight").replace("--", "combine.")
            raise InputError(said) from None
        for part in parts:
            read_adapter_config(find_adapter(recipe.resolve(part.path)))


def adapter_of(recipe: RecipeFile) -> Path | None:
    """The adapter folder a recipe names, if it names one. Raises InputError."""
    if not isinstance(recipe.recipe.adapter, str):
        return None
    folder = find_adapter(recipe.resolve(recipe.recipe.adapter))
    read_adapter_config(folder)
    return folder


def rows_of(recipe: RecipeFile, *, test: bool) -> tuple[list[Row], list[Row], list[str]]:
    """Training and test rows, and what of their files is not used; ``test`` says whether test rows are needed.

    Raises InputError.
    """
    data = recipe.recipe.data
    needs_train = recipe.recipe.adapter is None
    if needs_train and data.train is None:
        raise InputError(
            "data.train: this key is required to train an adapter; or give an existing adapter"
        )
    if test and data.test is None:
        raise InputError("data.test: this key is required to measure a bundle")

    notes: list[str] = []

    def read(name: str | None) -> list[Row]:
        if name is None:
            return []
        path = recipe.resolve(name)
        found = read_file(path, columns=data.columns, shape=data.shape, system=data.system)
        notes.extend(found.usage.warnings())
        return found.rows

    return read(data.train), read(data.test), notes


def check_rows(
    recipe: RecipeFile, model: ModelInfo, train: Sequence[Row], test: Sequence[Row]
) -> None:
    """Hold the rows of a model that generates against the objective and its chat template. Raises InputError.

    One row of each kind of conversation is rendered; the rest is looked at once the base stage is there.
    """
    refuse_empty((*train, *test))
    if recipe.recipe.adapter is not None:
        return  # which may bring a tokenizer and a template of its own
    check_objective(recipe.recipe.training.objective, train)
    if not os.path.lexists(model.path / "tokenizer.json"):
        return
    data = recipe.recipe.data
    template = data.template
    if template not in ("auto", "chat", "plain"):
        template = str(recipe.resolve(template))
    render_kinds(model.path, template, data.control_tokens, (*train, *test))
