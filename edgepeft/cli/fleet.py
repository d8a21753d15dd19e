"""``edgepeft build`` for a recipe with a matrix: the crew chosen, the cells built, one table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgepeft.cli.options import ProgressMode

if TYPE_CHECKING:
    from edgepeft.fleet.building import CellResult
    from edgepeft.fleet.scheduling import Crew
    from edgepeft.recipe_file import RecipeFile


def carry_out_fleet(
    until: str,
    recipe: RecipeFile,
    folder: Path,
    *,
    only: Sequence[str],
    jobs: int | None,
    memory: str | None,
    cluster: str | None,
    as_json: bool,
    fresh: bool,
    force: bool,
    progress: ProgressMode,
) -> None:
    """Build the cells of a recipe and print what became of them. Raises the worst cell's class of error."""
    from edgepeft.cli.progress import duration, show_events
    from edgepeft.cli.tables import print_table
    from edgepeft.errors import ERROR_CLASSES, InputError
    from edgepeft.fleet.building import build_fleet
    from edgepeft.matrix import cells_of, chosen_cells

    if fresh and only:
        raise InputError("--fresh: would clear the other cells too; leave --only or --fresh out")
    cells = chosen_cells(cells_of(recipe), only)
    with _crew(jobs, memory, cluster) as crew, show_events(progress) as sink:
        result = build_fleet(
            recipe, cells, folder, crew, until=until, fresh=fresh, force=force, sink=sink
        )
    if as_json:
        typer.echo(json.dumps(result.as_dict(), indent=2))
    else:
        print_table(*fleet_rows(result.cells))
        typer.echo(f"run      {result.run}")
        counts = result.stages
        typer.echo(
            f"done in {duration(result.seconds)}: {counts['built']} stages built, {counts['reused']} reused, "
            f"{counts['shared']} of them shared by several cells"
        )
    bad = [cell for cell in result.cells if cell.exit_status]
    for cell in bad:
        typer.echo(f"{cell.cell.name}: {cell.error}", err=True)
    if bad:
        raise ERROR_CLASSES[result.exit_status](
            f"{len(bad)} of {len(result.cells)} cells failed or missed a gate; the same command takes up what is "
            "missing, --only CELL one alone"
        )


@contextmanager
def _crew(jobs: int | None, memory: str | None, cluster: str | None) -> Iterator[Crew]:
    """Whoever carries the stages out: this machine, or a cluster."""
    from edgepeft.fleet.local import LocalCrew, default_jobs, default_memory

    budget = _bytes_of(memory)
    if cluster is not None:
        from edgepeft.fleet.cluster import ClusterCrew

        with ClusterCrew(cluster, jobs or 1, budget) as workers:
            yield workers
        return
    with LocalCrew(jobs or default_jobs(), budget or default_memory()) as crew:
        yield crew


def _bytes_of(text: str | None) -> int | None:
    """A number of bytes as typed, 8GB or 512MiB. Raises InputError."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    from edgepeft.errors import InputError

    if text is None:
        return None
    try:
        found = int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        found = 0
    if found <= 0:
        raise InputError(f"--memory {text}: write it as 8GB or 512MB")
    return found


def fleet_rows(cells: Sequence[CellResult]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table: a row a cell, in the measures of the first cell's task."""
    from edgepeft.fidelity.report import number
    from edgepeft.fidelity.vocabulary import vocabulary

    facts = [(cell.bundle or {}).get("fidelity") for cell in cells]
    measured = [one for one in facts if one]
    if not measured:
        return (
            ["cell", "state", "adapter"],
            [
                [cell.cell.name, cell.state, str(cell.adapter) if cell.adapter else "–"]
                for cell in cells
            ],
        )
    words = vocabulary(measured[0])
    first, *others = words.columns

    def row(cell: CellResult, found: Mapping[str, Any] | None) -> list[str]:
        blank = ["–"] * (len(words.columns) + 2)
        if not found or cell.bundle is None:
            return [cell.cell.name, *blank, cell.state]
        wanted = found.get(f"reference_{first.measure}")
        of = "" if wanted is None else f" of {number(wanted, first.digits)}"
        speed = found.get(words.rate.measure)
        return [
            cell.cell.name,
            number(found.get(first.measure), first.digits) + of,
            *(number(found.get(column.measure), column.digits) for column in others),
            f"{cell.bundle['bytes'] / 1e6:.0f}",
            "–" if speed is None else f"{speed:.0f}",
            cell.state,
        ]

    header = ["cell", *(column.title for column in words.columns), "MB", words.rate.title, "state"]
    return header, [row(cell, found) for cell, found in zip(cells, facts, strict=True)]
