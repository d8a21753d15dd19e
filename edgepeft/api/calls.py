"""``build``, ``plan`` and ``compare`` as functions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgepeft.api.notebook import in_notebook, notebook_progress
from edgepeft.config.loader import RecipeFile, recipe_of_text
from edgepeft.config.recipe import Recipe
from edgepeft.config.run_recipe import recipe_or_run, run_folder
from edgepeft.errors import InputError
from edgepeft.events import Sink, discard
from edgepeft.pipeline.build import BuildResult
from edgepeft.pipeline.build import build as carry_out
from edgepeft.pipeline.compare import compare as compare_run
from edgepeft.pipeline.plan_facts import plan_facts
from edgepeft.pipeline.planner import make_plan
from edgepeft.pipeline.resources import estimate
from edgepeft.runs.folder import RunFolder
from edgepeft.utils.yaml_text import write_yaml

RecipeLike = str | os.PathLike[str] | Mapping[str, Any] | Recipe
"""A recipe's file, a run's folder, or the recipe itself, whose paths are then relative to the working folder."""


def build(
    recipe: RecipeLike,
    out: str | os.PathLike[str] | None = None,
    *,
    overrides: Sequence[str] = (),
    until: str = "verify",
    fresh: bool = False,
    force: bool = False,
    on_event: Sink | None = None,
) -> BuildResult:
    """Carry out a recipe; the same call after an interruption goes on where it ended.

    Args:
        recipe: What to build; ``overrides`` are changes to it, as ``["training.max_steps=10"]``.
        out: The run's folder; default: ``runs/NAME`` after the recipe's file, the folder itself for a run's.
        until: The last kind of stage: ``train``, ``merge``, ``quantize``, ``export`` or ``verify``.
        fresh: Start without what earlier builds left in the folder.
        force: Go on where free disk space or the folder's content would stop it.
        on_event: Called with every event (a mapping with ``event``, ``stage`` and more, see ``edgepeft.events``);
            default: a progress bar in a notebook, nothing elsewhere.

    Raises:
        GateError: A gate was missed. The bundle is kept and marked; ``result`` of the error says all.
        InputError: The recipe or what it names is wrong.
        MissingError: A library, a model or a device is not here.
        InterruptedRun: Ctrl-C; what is finished is kept.
        EdgepeftError: Anything else that failed.
    """
    loaded = _loaded(recipe, overrides)
    _refuse_matrix(loaded)
    with _listening(on_event) as sink:
        result = carry_out(
            loaded, _folder(recipe, loaded, out), until=until, fresh=fresh, force=force, sink=sink
        )
    result.require_gates()
    return result


def plan(
    recipe: RecipeLike,
    out: str | os.PathLike[str] | None = None,
    *,
    overrides: Sequence[str] = (),
    until: str = "verify",
    price: float | None = None,
) -> dict[str, Any]:
    """What ``build`` would do and roughly cost: the object that ``edgepeft plan --json`` prints.

    Nothing is built. ``price`` is that of an hour of this machine. Raises InputError, MissingError.
    """
    loaded = _loaded(recipe, overrides)
    _refuse_matrix(loaded)
    run = RunFolder(_folder(recipe, loaded, out).resolve())
    found = make_plan(loaded, run, until=until)
    return plan_facts(found, estimate(found), price)


def compare(
    run: str | os.PathLike[str], vary: Sequence[str], *, on_event: Sink | None = None
) -> list[dict[str, Any]]:
    """Build and measure variants of a finished run, as ``["quantize.head=int4,int8"]`` says.

    Returns what ``edgepeft compare --json`` prints: an entry for each combination. Raises EdgepeftError.
    """
    with _listening(on_event) as sink:
        return compare_run(Path(run), list(vary), sink)


def _loaded(recipe: RecipeLike, overrides: Sequence[str]) -> RecipeFile:
    if isinstance(recipe, Recipe):
        recipe = recipe.model_dump(mode="json", exclude_unset=True)
    if isinstance(recipe, Mapping):
        return recipe_of_text(write_yaml(dict(recipe)), overrides, Path.cwd(), "run")
    return recipe_or_run(Path(recipe), overrides)


def _folder(recipe: RecipeLike, loaded: RecipeFile, out: str | os.PathLike[str] | None) -> Path:
    given = Path(recipe) if isinstance(recipe, str | os.PathLike) else None
    return run_folder(loaded, None if out is None else Path(out), given)


def _refuse_matrix(recipe: RecipeFile) -> None:
    if recipe.recipe.matrix:
        raise InputError("matrix: edgepeft.build takes one cell; edgepeft build RECIPE builds all")


@contextmanager
def _listening(on_event: Sink | None) -> Iterator[Sink]:
    if on_event is None and in_notebook():
        with notebook_progress() as sink:
            yield sink
    else:
        yield on_event or discard
