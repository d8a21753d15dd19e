"""Options that several commands share, each declared once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    # Reading recipes loads pydantic, which --help has no use for.
    from edgepeft.recipe_file import RecipeFile


class ProgressMode(StrEnum):
    """How progress is shown on stderr."""

    auto = "auto"
    jsonl = "jsonl"
    none = "none"


RecipeArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe file (YAML), - for standard input, or a run's folder to go on with it as it "
        "was begun; options alone will do as well.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="Override a recipe key, as training.max_steps=10."
    ),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="Short for --set model=..., relative to here.")
]
AdapterOption = Annotated[
    str | None, typer.Option("--adapter", help="Short for --set adapter=..., relative to here.")
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        "--layout",
        help="Short for --set layout=...: bundles for all runtimes, or for genai, transformers.js or "
        "onnxruntime alone.",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="The run's folder; default: runs/ and the recipe's name."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done and what it would cost, and stop.")
]
FreshOption = Annotated[
    bool,
    typer.Option(
        "--fresh/--resume", help="Start anew, or go on from what is finished (the default)."
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Go on where a check of disk or folder would stop.")
]
MismatchOption = Annotated[
    bool,
    typer.Option(
        "--allow-base-mismatch",
        help="Take an adapter that was trained on another base model of the same shape.",
    ),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="CELL",
        help="Of a recipe with a matrix only these cells: a name, its beginning up to a /, or a pattern such as "
        "'*/cpu-int4'.",
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        help="Stages of a matrix carried out at a time (on a cluster: on each worker); default: one for "
        "each combination of choices, at most one a core, and one where there is a GPU (cluster: one a worker).",
    ),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="BYTES",
        help="What the stages of a matrix may take together, as 8GB; default: most of what is free.",
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Build a matrix on the Dask cluster whose scheduler is there, as tcp://host:8786; its workers must "
        "see the same files.",
    ),
]
ProgressOption = Annotated[
    ProgressMode,
    typer.Option("--progress", help="Progress on stderr: for people, JSON lines, or none."),
]


def recipe_from(
    recipe: Path | None, overrides: list[str] | None, model: str | None, adapter: str | None
) -> RecipeFile:
    """The recipe of a command: its file, then --set, then the short options. Raises InputError."""
    from edgepeft.recipe_file import load_recipe, varied

    changes = list(overrides or [])
    if model is not None:
        changes.append(f"model={json.dumps(_from_here(model))}")
    if adapter is not None:
        changes.append(f"adapter={json.dumps(_from_here(adapter))}")
    if recipe is not None and recipe.is_dir():
        from edgepeft.comparison import recipe_of

        begun = recipe_of(recipe)
        return varied(begun, changes) if changes else begun
    return load_recipe(recipe, changes)


def with_mismatch(overrides: list[str] | None, allowed: bool) -> list[str]:
    """The overrides, with --allow-base-mismatch among them as the recipe key it is short for."""
    return [*(overrides or []), *(["merge.allow_base_mismatch=true"] if allowed else [])]


def check_matrix(recipe: RecipeFile, given: Mapping[str, object]) -> None:
    """Refuse options of a fleet for a recipe that is none. Raises InputError."""
    from edgepeft.errors import InputError

    for option, value in given.items():
        if value is not None and not recipe.recipe.matrix:
            raise InputError(f"{option}: is for recipes with a matrix, and this one has none")


def _from_here(value: str) -> str:
    """A path typed on the command line is relative to the working folder, not to the recipe."""
    return str(Path(value).resolve()) if Path(value).exists() else value


def run_folder(recipe: RecipeFile, out: Path | None, given: Path | None = None) -> Path:
    """Where the run goes; ``given`` is the recipe's argument, which may be a run's folder itself."""
    if out is not None:
        return out
    return given if given is not None and given.is_dir() else Path("runs") / recipe.name
