"""``edgepeft data``: a recipe's data as the model will read it, before anything is trained."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgepeft.cli.options import (
    AdapterOption,
    DataOption,
    JsonOption,
    ModelOption,
    OnlyOption,
    RecipeArgument,
    SetOption,
)
from edgepeft.cli.recipe_choice import Short, check_matrix, recipe_from
from edgepeft.errors import EdgepeftError, InputError

if TYPE_CHECKING:
    from edgepeft.config.loader import RecipeFile


def command(
    recipe: RecipeArgument = None,
    overrides: SetOption = None,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    data: DataOption = None,
    rows: Annotated[int, typer.Option(min=0, help="Rows to show.")] = 3,
    only: OnlyOption = None,
    infer_schema: Annotated[
        bool,
        typer.Option(
            "--infer-schema",
            help="Print a JSON Schema that the answers of the training rows fit, for answer.json_schema.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how the data is laid out, a few rows as tokens see them, and what the checks say.

    What is learned of a row stands in [[double brackets]]; the rest is the prompt. Of a recipe with a matrix the
    first cell is shown, or the first that --only names. Where rows can't be learned from as they are, --json
    lists the columns of their file, with a guess at data.columns, beside the error.
    """
    from edgepeft.data.report_line import describe_data
    from edgepeft.pipeline.data_preview import preview_data

    loaded = recipe_from(recipe, overrides, Short(model, adapter, data))
    check_matrix(loaded, {"--only": only})
    if loaded.recipe.matrix:
        from edgepeft.config.matrix import cells_of, chosen_cells

        cell = chosen_cells(cells_of(loaded), only or [])[0]
        typer.echo(f"cell {cell.name}", err=True)
        loaded = cell.recipe
    if infer_schema:
        from edgepeft.pipeline.schema_proposal import propose_schema

        schema, notes = propose_schema(loaded)
        for note in notes:
            typer.echo(note, err=True)
        typer.echo(json.dumps(schema, indent=2, ensure_ascii=False))
        return
    try:
        facts = preview_data(loaded, rows)
    except InputError as error:
        if as_json:
            _print_choice(loaded, error)
        raise
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for note in facts["notes"]:
        typer.echo(note, err=True)
    for split, layout in facts["files"].items():
        typer.echo(
            f"{split:<6} {layout['path']}: {layout['rows']} rows, {layout['format']}, shape "
            f"{layout['shape']} from columns {', '.join(layout['columns'])}"
        )
        _print_fields(layout["fields"])
    typer.echo(f"prompt {facts['mode']}")
    if facts["report"]:
        typer.echo(describe_data(facts["report"]))
    for row in facts["rows"]:
        typer.echo(f"\n{row['where']}, {row['tokens']} tokens")
        for piece in row["pieces"]:
            typer.echo(f"[[{piece['text']}]]" if piece["learned"] else piece["text"], nl=False)
        typer.echo("")
    for warning in facts["report"]["warnings"] if facts["report"] else facts["notes"]:
        typer.echo(f"! {warning}", err=True)


def _print_choice(recipe: RecipeFile, error: InputError) -> None:
    """What data.columns can be chosen from, if there is a file to read it from."""
    from edgepeft.pipeline.column_choice import choose_columns

    with contextlib.suppress(EdgepeftError):
        choice = choose_columns(recipe)
        typer.echo(json.dumps({"error": str(error), **choice}, indent=2))


def _print_fields(fields: dict[str, Any]) -> None:
    """What of a file's fields is used, and what is not."""
    told = [f"used: {', '.join(fields['used'])}"]
    told += [
        f"not used: {one['field']}, in {one['rows']} rows ({one['why']})"
        for one in fields["unused"]
    ]
    if fields["harmless"]:
        told.append(f"not used, and nothing is lost: {', '.join(fields['harmless'])}")
    for line in told:
        typer.echo(f"       {line}")
