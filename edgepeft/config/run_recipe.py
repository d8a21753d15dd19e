"""Runs and recipes: the recipe that a run was built with, and the folder that a recipe's run goes into."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgepeft.config.loader import RecipeFile, load_recipe, varied
from edgepeft.errors import InputError
from edgepeft.runs.index import run_record
from edgepeft.utils.files import read_text_file
from edgepeft.utils.scalars import TEXT_BYTES


def recipe_of(run: Path) -> RecipeFile:
    """The recipe a run was built with, every default spelled out. Raises InputError."""
    resolved = run / "recipe.resolved.yaml"
    try:
        record = run_record(run) if run.is_dir() else {}
    except FileNotFoundError:
        record = {}
    if not record or not resolved.is_file():
        raise InputError(f"{run}: not the folder of a run; edgepeft build RECIPE makes one")
    loaded = load_recipe(resolved)
    origin = Path(record["recipe"]) if record.get("recipe") else None
    folder = Path(record["folder"]) if record.get("folder") else loaded.folder
    written = run / "recipe.yaml"
    verbatim = read_text_file(written, TEXT_BYTES) if written.is_file() else loaded.verbatim
    return RecipeFile(loaded.recipe, origin, verbatim, folder)


def recipe_or_run(path: Path, overrides: Sequence[str] = ()) -> RecipeFile:
    """The recipe of a file, - for standard input, or of a run's folder, with overrides. Raises InputError."""
    if not path.is_dir():
        return load_recipe(path, overrides)
    begun = recipe_of(path)
    return varied(begun, overrides) if overrides else begun


def run_folder(recipe: RecipeFile, out: Path | None, given: Path | None = None) -> Path:
    """Where the run goes; ``given`` is the recipe's argument, which may be a run's folder itself."""
    if out is not None:
        return out
    if given is not None and given.is_dir():
        return given
    folder = Path("runs") / recipe.name
    _refuse_another_job(folder, recipe)
    return folder


def _refuse_another_job(folder: Path, recipe: RecipeFile) -> None:
    """Raise InputError where a folder that nobody chose holds the run of another recipe of the same name."""
    try:
        held = recipe_of(folder)
    except InputError:
        return  # no run, or one that says no more what it was
    if held.path is not None or recipe.path is not None:
        same = held.path == (recipe.path.resolve() if recipe.path is not None else None)
    else:
        same = _job(held) == _job(recipe)
    if not same:
        held_of = (
            held.path
            or f"{held.recipe.model} and {held.recipe.data.train or held.recipe.data.test}"
        )
        raise InputError(
            f"{folder}: is the run of another recipe ({held_of}); give another --out, or --out {folder} to go "
            "on there"
        )


def _job(recipe: RecipeFile) -> tuple[object, ...]:
    """What tells a recipe that is in no file from another of the same name."""
    values = recipe.recipe
    return values.model, values.adapter, values.data.train, values.data.test
