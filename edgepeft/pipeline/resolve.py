"""From a recipe to what its files say, each read once. Nothing heavy is imported on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from edgepeft.adapters.base_needs import as_staged, needs_of
from edgepeft.adapters.fit import unknown_modules
from edgepeft.adapters.header import AdapterHeader
from edgepeft.adapters.method import TrainingMethod
from edgepeft.adapters.methods import find_method
from edgepeft.adapters.overview import BaseNeeds
from edgepeft.adapters.provenance import TrainingGrid
from edgepeft.adapters.trained_tables import parts_tables
from edgepeft.config.loader import RecipeFile
from edgepeft.config.recipe import Recipe
from edgepeft.data.rows import Row
from edgepeft.data.template_modes import AUTO, CHAT
from edgepeft.errors import InputError
from edgepeft.guidance.grammar import Grammar
from edgepeft.merging.settings import FrozenBase
from edgepeft.models import ModelInfo, find_model, inspect_model
from edgepeft.models.checks import not_calibrated_because
from edgepeft.models.scoring import Scoring, scoring_of
from edgepeft.models.task_resolution import labels_of, resolve_task
from edgepeft.models.tasks import GENERATION, RANKING, Task
from edgepeft.pipeline.resolved import ResolvedRecipe, ResolvedTarget
from edgepeft.pipeline.sources import split_notes
from edgepeft.quantization.algorithms import AUTO as AUTO_ALGORITHM
from edgepeft.quantization.algorithms import check_algorithm
from edgepeft.targets import GRID_KEYS, TargetProfile, check_architecture, resolve_target
from edgepeft.training.hosts import processes_here


def _onto_no_grid(file: RecipeFile, model: ModelInfo) -> RecipeFile:
    """The recipe with a base that no training has rounded: what an adapter saw is how the model came.

    Raises InputError where ``merge.grid`` says otherwise.
    """
    merge = file.recipe.merge
    if merge.grid not in ("auto", "none"):
        raise InputError(
            f"merge.grid: {merge.grid}: the weights of {file.recipe.model} are {model.quantization}'s, which is "
            "the base that an adapter saw; leave it out"
        )
    known = {"merge": merge.model_copy(update={"grid": "none"})}
    return replace(file, recipe=file.recipe.model_copy(update=known))


class Adapters(NamedTuple):
    """The adapters that a recipe names: its own, or the parts that are combined, and further ones."""

    own: AdapterHeader | None
    parts: tuple[AdapterHeader, ...]
    further: tuple[AdapterHeader, ...]

    @classmethod
    def read(cls, file: RecipeFile) -> Adapters:
        """Read the folders of a recipe's adapters. Raises InputError."""
        recipe = file.recipe

        def header(path: str) -> AdapterHeader:
            return AdapterHeader.read(file.adapter_folder(path), recipe.merge.grid)

        named = recipe.adapter
        return cls(
            header(named) if isinstance(named, str) else None,
            tuple(header(part.path) for part in named) if isinstance(named, list) else (),
            tuple(header(one.path) for one in recipe.adapters),
        )

    def needs(
        self, model: ModelInfo, task: Task, template: str, *, parted: bool = False
    ) -> tuple[BaseNeeds, list[str]]:
        """What they ask of the base, with notes on its files and theirs; ``template`` is the recipe's.

        ``parted`` says whether embedding and head are trained each by itself. Raises InputError.
        """
        return needs_of(
            self.own,
            (*self.further, *self.parts),
            model,
            task,
            templated=template in (AUTO, CHAT),
            parted=parted,
        )


def resolve(file: RecipeFile, *, measured: bool) -> ResolvedRecipe:
    """Read all that a recipe names; ``measured`` says whether test rows are needed. Raises InputError."""
    recipe = file.recipe
    method = find_method(recipe.method.name) if recipe.adapter is None else None
    targets = resolve_targets(recipe)
    path = find_model(recipe.model, file.folder)
    given = inspect_model(path)
    if given.on_own_grid:
        file = _onto_no_grid(file, given)
        recipe = file.recipe
    check_architecture(given, [target.profile for target in targets], recipe.model)
    adapters = Adapters.read(file)
    train, test, unused = _rows(file, measured=measured)
    task = resolve_task(recipe.task, given, [*train, *test])
    asked = recipe.method
    parted = method is not None and parts_tables(method, asked.target_modules, asked.options)
    needs, notes = adapters.needs(given, task, recipe.data.template, parted=parted)
    split = split_notes({"data.train": recipe.data.train, "data.test": recipe.data.test})
    notes = [*file.notes, *notes, *unused, *split]
    if method is not None and task == GENERATION and isinstance(asked.target_modules, list):
        notes += [
            f"method.target_modules: no module of the model is called {name}; the others train"
            for name in unknown_modules(asked.target_modules, given)
        ]
    for target in targets:
        notes += _grid_notes(target, recipe)
    targets = [for_task(target, task) for target in targets]
    if (why := not_calibrated_because(given)) is not None:
        notes += [f"{t.name}: rounded without calibration, for {why}" for t in targets if _fits(t)]
        targets = [_without_calibration(target) if _fits(target) else target for target in targets]
    named = recipe.answer.json_schema
    schema = None if named is None else file.resolve(named)
    swaps = any(target.swaps for target in targets)
    return ResolvedRecipe(
        file=file,
        model=as_staged(given, needs, task),
        given=given,
        base_name=recipe.model if file.resolve(recipe.model) != path else path.name,
        targets=tuple(targets),
        method=method,
        adapter=adapters.own,
        parts=adapters.parts,
        further=adapters.further,
        train_rows=train,
        test_rows=test,
        task=task,
        labels=tuple(labels_of(task, given, recipe.data.labels, train, test)),
        needs=needs,
        frozen=_frozen(recipe, method, adapters) if swaps else None,
        local_processes=processes_here(file),
        answer=None
        if schema is None
        else Grammar.read("json_schema", schema, "answer.json_schema:"),
        answer_file=schema,
        notes=tuple(notes),
        paired=task == RANKING or any(row.pair is not None for row in (*train, *test)),
        scoring=_scoring(task, given, [*train, *test]),
    )


def _scoring(task: Task, model: ModelInfo, rows: Sequence[Row]) -> Scoring | None:
    """How a ranker's number becomes a score; None for other tasks. Raises InputError."""
    if task != RANKING:
        return None
    return scoring_of(
        model.config, model.path, (row.score for row in rows if row.score is not None)
    )


def resolve_targets(recipe: Recipe) -> list[ResolvedTarget]:
    """The targets of a recipe, as text generation has them. Raises InputError."""
    found = []
    for asked in recipe.targets:
        profile = resolve_target(asked)
        grid = profile.grid(
            recipe.quantize, asked.quantize.model_dump(mode="json", exclude_none=True)
        )
        level = recipe.quantize.accuracy_level
        found.append(ResolvedTarget(profile, asked, grid, fallback_level=level))
    for name in {recipe.quantize.algorithm, *(target.grid.algorithm for target in found)}:
        check_algorithm(name)
    return found


def _fits(target: ResolvedTarget) -> bool:
    """Whether a target is rounded to fit calibration data by default."""
    return target.grid.algorithm == AUTO_ALGORITHM and target.calibrates()


def _without_calibration(target: ResolvedTarget) -> ResolvedTarget:
    algorithm = "rtn" if target.profile.bits == 8 or target.grid.symmetric else "k_quant"
    return replace(target, grid=target.grid.model_copy(update={"algorithm": algorithm}))


def for_task(target: ResolvedTarget, task: Task) -> ResolvedTarget:
    """The target with the exporter that the task calls for. Raises InputError where it only serves generation."""
    return replace(target, task=task, profile=_profile_for(target.profile, task))


def _profile_for(profile: TargetProfile, task: Task) -> TargetProfile:
    if task == GENERATION or profile.exporter != "decoder":
        return profile
    if profile.precision == "nf4" or profile.weight_layout == "qdq" or profile.io_dtype == "bf16":
        raise InputError(
            f"targets: {profile.name}: is for text generation only; for {task} choose a target such as cpu-int8, "
            "cpu-int4, cpu-fp32, webgpu-int4-fp32 or cuda-fp16"
        )
    return replace(profile, exporter="encoder")


def _rows(file: RecipeFile, *, measured: bool) -> tuple[list[Row], list[Row], list[str]]:
    """Training and test rows, and what of their files is not used. Raises InputError."""
    data = file.recipe.data
    if file.recipe.adapter is None and data.train is None:
        raise InputError(
            "data.train: this key is required to train an adapter; or give an existing adapter"
        )
    if measured and data.test is None:
        raise InputError(
            "data.test: this key is required to measure a bundle; name a file of held-out rows, or give 10% to "
            "hold out as much of data.train"
        )
    if data.held_out is not None and data.train is None:
        raise InputError(
            f"data.test: {data.test} is held out of data.train, which is missing; name a file of test rows"
        )
    notes: list[str] = []

    def read(name: str | None) -> list[Row]:
        if name is None:
            return []
        found = data.read(file.resolve(name))
        notes.extend(found.usage.warnings())
        return found.rows

    train = read(data.train)
    if data.held_out is None:
        return train, read(data.test), notes
    if file.recipe.adapter is not None:
        notes.append(
            f"data.test: {data.test} is held out of data.train, which the adapter may have been trained on; name "
            "rows that it has not seen"
        )
    train, test = data.split(train)
    return train, test, notes


def _frozen(recipe: Recipe, method: TrainingMethod | None, adapters: Adapters) -> FrozenBase:
    """The base under hot-swap bundles: the one that was frozen under the recipe's own adapter.

    It is known before the adapter is trained, so that a base once rounded serves every adapter trained on it.
    """
    if recipe.merge.base == "original":
        return FrozenBase()
    if method is not None:
        return FrozenBase(grid=TrainingGrid(method.chosen_grid(recipe.method)))
    first = adapters.own or adapters.parts[0]
    return FrozenBase(grid=first.provenance.grid, quantized=first.provenance.quantized)


def _grid_notes(target: ResolvedTarget, recipe: Recipe) -> list[str]:
    """Where a device's kernels made a target leave the recipe's defaults."""
    changed = {
        key: getattr(target.grid, key)
        for key in GRID_KEYS
        if getattr(target.grid, key)
        not in (getattr(recipe.quantize, key), getattr(target.asked.quantize, key))
    }
    if not changed:
        return []
    what = ", ".join(f"{key}: {str(value).lower()}" for key, value in changed.items())
    return [f"{target.name}: quantize uses {what}, as its kernels need"]
