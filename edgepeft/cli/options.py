"""Options that several commands share, each declared once."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    # Reading recipes loads pydantic, which --help has no use for.
    from edgepeft.config.loader import RecipeFile


class ProgressMode(StrEnum):
    """How progress is shown on stderr."""

    auto = "auto"
    jsonl = "jsonl"
    none = "none"


RecipeArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe file (YAML or JSON), - for standard input, or a run's folder to resume that run. "
        "Not needed if the options say enough.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="Override a recipe key, as training.max_steps=10."
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Base model; a path is relative to the working folder. Same as --set model=...",
    ),
]
AdapterOption = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        help="Use an existing adapter: it replaces the recipe's method and training. Same as --set adapter=...",
    ),
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        "--layout",
        help="Runtimes that the bundles are for: all, genai, transformers.js or onnxruntime. Same as --set "
        "layout=...",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder of the run; default: runs/NAME, after the recipe."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show the plan and its cost, and do nothing.")
]
FreshOption = Annotated[
    bool,
    typer.Option(
        "--fresh/--resume",
        help="Start from scratch, or resume from what is finished (the default).",
    ),
]
ForceOption = Annotated[
    bool,
    typer.Option("--force", help="Ignore the checks of free disk space and of the output folder."),
]
MismatchOption = Annotated[
    bool,
    typer.Option(
        "--allow-base-mismatch",
        help="Accept an adapter trained on another base model of the same shape.",
    ),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="CELL",
        help="Build only these cells of the matrix: a name, the beginning of a name up to a /, or a pattern such "
        "as '*/cpu-int4'. Repeatable.",
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        help="Stages of a matrix to run at the same time (with --cluster: on each worker). Default: one for each "
        "combination of choices, at most one per core; one if there is a GPU; one per worker of a cluster.",
    ),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="BYTES",
        help="Memory limit for the stages of a matrix that run at the same time, as 8GB; default: 80 % of the "
        "free memory.",
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Build a matrix on a Dask cluster: the scheduler's address, as tcp://host:8786. The workers must "
        "see the same files.",
    ),
]
ProgressOption = Annotated[
    ProgressMode,
    typer.Option(
        "--progress",
        help="Progress on stderr: auto (a progress bar, or plain lines), jsonl (JSON lines) or none.",
    ),
]


def recipe_from(
    recipe: Path | None, overrides: list[str] | None, model: str | None, adapter: str | None
) -> RecipeFile:
    """The recipe of a command: its file, then --set, then the short options. Raises InputError."""
    from edgepeft.config.loader import load_recipe, varied
    from edgepeft.errors import InputError
    from edgepeft.utils.yaml_text import quoted

    changes = list(overrides or [])
    for key, path in (("model", model), ("adapter", adapter)):
        if path is not None:
            try:
                path.encode()
            except UnicodeEncodeError:
                raise InputError(f"--{key} {path}: not a name in UTF-8; rename it") from None
            changes.append(f"{key}={quoted(_from_here(path))}")
    if recipe is not None:
        from edgepeft.cli.meant import refuse_other_than_recipe

        refuse_other_than_recipe(recipe)
    if recipe is not None and recipe.is_dir():
        from edgepeft.config.run_recipe import recipe_of

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
            raise InputError(f"{option}: the recipe has no matrix; leave it out")


def _from_here(value: str) -> str:
    """A path typed on the command line is relative to the working folder, not to the recipe."""
    return str(Path(value).resolve()) if Path(value).exists() else value


def run_folder(recipe: RecipeFile, out: Path | None, given: Path | None = None) -> Path:
    """Where the run goes; ``given`` is the recipe's argument, which may be a run's folder itself."""
    if out is not None:
        return out
    return given if given is not None and given.is_dir() else Path("runs") / recipe.name
