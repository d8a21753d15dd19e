"""What a path was meant for where it names something else than the command takes."""

from __future__ import annotations

from pathlib import Path

from edgepeft.bundle.manifest import MANIFEST
from edgepeft.errors import InputError
from edgepeft.runs.folder import RunFolder

_RECIPES = (".yaml", ".yml")
_ROWS = (".jsonl", ".csv", ".tsv", ".parquet")
_NAMED = 6
"""Bundles of a run that are named; a matrix may have hundreds."""


def bundle_folder(path: Path) -> Path:
    """The bundle that a folder stands for: itself, or a run's only one. Raises InputError where it has more."""
    if (path / MANIFEST).exists() or not RunFolder(path).record.is_file():
        return path
    found = [
        place for place in sorted((path / "bundles").glob(f"**/{MANIFEST}")) if _of_bundle(place)
    ]
    if len(found) == 1:
        return found[0].parent
    if not found:
        raise InputError(f"{path}: a run without bundles; edgepeft build {path} goes on with it")
    named = ", ".join(str(place.parent) for place in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    raise InputError(f"{path}: a run with {len(found)} bundles; give one of them: {named}{more}")


def refuse_other_than_recipe(path: Path) -> None:
    """Raise InputError for a model, an adapter, a bundle or rows in a recipe's place, with the command for it."""
    if path.suffix in _ROWS and path.is_file():
        raise _no_recipe(
            path,
            "a file of rows",
            "edgepeft init --model MODEL --data {0} writes a recipe for it, edgepeft build --model MODEL --data "
            "{0} builds without one",
        )
    if path.suffix == ".gguf" and path.is_file():
        raise _no_recipe(path, "a model", _FOR_MODELS)
    if not path.is_dir() or RunFolder(path).record.is_file():
        return
    if (path / MANIFEST).is_file() and _of_bundle(path / MANIFEST):
        raise _no_recipe(
            path, "a bundle", "edgepeft verify {0} checks it, edgepeft run {0} asks it"
        )
    if (path / "adapter_config.json").is_file():
        raise _no_recipe(
            path, "an adapter", "edgepeft build RECIPE --adapter {0} builds bundles with it"
        )
    if (path / "config.json").is_file():
        raise _no_recipe(path, "a model", _FOR_MODELS)


def refuse_other_than_inspected(path: Path) -> None:
    """Raise InputError where a recipe or rows are to be inspected, with the command for it."""
    if not path.is_file():
        return
    if path.suffix in _RECIPES:
        raise InputError(
            f"{path}: is a recipe; edgepeft plan {path} shows what it builds, edgepeft data {path} its rows"
        )
    if path.suffix in _ROWS:
        raise InputError(
            f"{path}: is a file of rows; edgepeft data RECIPE shows the rows that a recipe names"
        )


_FOR_MODELS = "edgepeft build --model {0} --data ROWS trains it, edgepeft inspect {0} describes it"


def _no_recipe(path: Path, kind: str, commands: str) -> InputError:
    return InputError(f"{path}: is {kind}, not a recipe; {commands.format(path)}")


def _of_bundle(manifest: Path) -> bool:
    """Whether a manifest is a bundle's: stages and adapters have manifests too."""
    from edgepeft.utils.files import read_json_object

    try:
        return read_json_object(manifest, own=True).get("kind") == "bundle"
    except (OSError, InputError):
        return False
