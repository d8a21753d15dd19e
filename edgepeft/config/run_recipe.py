"""The recipe that a run was built with."""

from __future__ import annotations

from pathlib import Path

from edgepeft.config.loader import RecipeFile, load_recipe
from edgepeft.errors import InputError
from edgepeft.runs.index import run_record
from edgepeft.utils.files import read_text_file
from edgepeft.utils.scalars import TEXT_BYTES


def recipe_of(run: Path) -> RecipeFile:
    """The recipe a run was built with, every default spelled out. Raises InputError."""
    resolved = run / "recipe.resolved.yaml"
    try:
        record = run_record(run)
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
