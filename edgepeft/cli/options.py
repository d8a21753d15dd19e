"""Options that several commands share, each declared once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


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
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Rows to learn; without a recipe columns are told apart and some rows are held out for the test. "
        "Same as --set data.train=...",
    ),
]
TargetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--target", "-t", help="A device to build for. Repeatable. Same as --set targets=[...]"
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option("--steps", min=1, help="Optimizer steps. Same as --set training.max_steps=..."),
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
