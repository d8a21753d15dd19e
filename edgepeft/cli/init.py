"""``edgepeft init``: a first recipe for a model and a file of rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgepeft.cli.options import JsonOption
from edgepeft.cli.streams import say


def command(
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Base model: a folder, a .gguf file, a hub id or a short name."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Rows: JSONL, JSON, CSV, TSV or Parquet.")
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option("--adapter", help="An adapter that exists; nothing is trained then."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target", "-t", help="A device to build for; default: cpu-int4. Repeatable."
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            "--test",
            help="Held-out rows: a file, or what to hold out of the rows, as 10% or 50; default: by their count.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Optimizer steps; default: 3 epochs.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The recipe's file; default: the data file's name with .yaml."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a recipe that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a recipe for a model and rows: columns are told apart, and test rows are set aside.

    In a terminal it asks for the model, the rows and the target where they are not given.
    """
    from edgepeft.config.loader import recipe_of_text
    from edgepeft.errors import InputError
    from edgepeft.pipeline.resolve import resolve
    from edgepeft.starter import DEFAULT_MODEL, DEFAULT_TARGET, start_recipe
    from edgepeft.utils.whole_files import write_text

    targets = target or []
    if (model is None or data is None) and sys.stdin.isatty() and not as_json:
        model = model or typer.prompt("Model", default=DEFAULT_MODEL, err=True)
        data = data or typer.prompt("Rows (a file)", err=True)
        targets = targets or [typer.prompt("Target", default=DEFAULT_TARGET, err=True)]
    if model is None or data is None:
        missing = "--model" if model is None else "--data"
        raise InputError(
            f"{missing}: is missing; edgepeft init --model smollm2-135m-instruct --data rows.csv"
        )
    path = out or Path(f"{Path(data).stem or 'recipe'}.yaml")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name the recipe's file with --out")
    if path.exists() and not force:
        raise InputError(
            f"{path}: is there already; choose another --out, or replace it with --force"
        )
    folder = path.absolute().parent
    started = start_recipe(
        model,
        data,
        adapter=adapter,
        targets=targets,
        steps=steps,
        test=test,
        folder=folder,
    )
    file = recipe_of_text(started.text, (), folder, path.stem)
    notes = resolve(file, measured=True).notes
    write_text(path, started.text)
    if as_json:
        facts = {
            "recipe": str(path.absolute()),
            "values": started.raw,
            "notes": [*started.decided, *notes],
        }
        typer.echo(json.dumps(facts, indent=2))
        return
    for line in started.decided:
        say(line)
    for note in notes:
        say(note, err=True)
    say(f"wrote {path}; edgepeft plan {path} shows what it costs, edgepeft build {path} builds it")
