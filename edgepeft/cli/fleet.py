"""``edgepeft build`` for a recipe with a matrix: the crew chosen, the cells built, one table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgepeft.cli.options import ProgressMode
from edgepeft.cli.reports import Report
from edgepeft.cli.streams import say

if TYPE_CHECKING:
    from edgepeft.config.loader import RecipeFile
    from edgepeft.config.matrix import Cell
    from edgepeft.fleet.building import CellResult
    from edgepeft.fleet.scheduling import Crew


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
    report: Report,
) -> None:
    """Build the cells of a recipe and print what became of them. Raises the worst cell's class of error."""
    from edgepeft.cli.advice import say_advice
    from edgepeft.cli.progress import show_events
    from edgepeft.cli.tables import print_table
    from edgepeft.config.matrix import cells_of, chosen_cells
    from edgepeft.errors import ERROR_CLASSES, InputError
    from edgepeft.fleet.building import build_fleet
    from edgepeft.utils.quantities import duration

    if fresh and only:
        raise InputError("--fresh: would also delete the other cells; remove --fresh or --only")
    cells = chosen_cells(cells_of(recipe), only)
    with _crew(cells, jobs, memory, cluster) as crew, show_events(progress) as sink:
        result = build_fleet(
            recipe, cells, folder, crew, until=until, fresh=fresh, force=force, sink=sink
        )
    for cell in result.cells:
        if cell.bundle:
            report.add_bundles([{**cell.bundle, "cell": cell.cell.name}])
        else:
            report.add_failure(cell.cell.name, cell.error or cell.state)
    if as_json:
        typer.echo(json.dumps(result.as_dict(), indent=2))
    else:
        print_table(*fleet_rows(result.cells))
        say(f"run      {result.run}")
        counts = result.stages
        say(
            f"done in {duration(result.seconds)}: {counts['built']} stages built, {counts['reused']} reused, "
            f"{counts['shared']} of them shared by several cells"
        )
    bad = [cell for cell in result.cells if cell.exit_status]
    for cell in bad:
        say(f"{cell.cell.name}: {cell.error}", err=True)
        if cell.bundle:
            say_advice([{**cell.bundle, "cell": cell.cell.name}], progress)
    if bad:
        raise ERROR_CLASSES[result.exit_status](
            f"{len(bad)} of {len(result.cells)} cells failed or missed a gate; run the same command to resume, "
            "or add --only CELL for one cell"
        )


@contextmanager
def _crew(
    cells: Sequence[Cell], jobs: int | None, memory: str | None, cluster: str | None
) -> Iterator[Crew]:
    """Whoever carries the stages out: this machine, or a cluster."""
    from edgepeft.fleet.local import LocalCrew, default_jobs, default_memory

    budget = _bytes_of(memory)
    if cluster is not None:
        from edgepeft.fleet.cluster import ClusterCrew

        with ClusterCrew(cluster, jobs or 1, budget) as workers:
            yield workers
        return
    with LocalCrew(jobs or default_jobs(cells), budget or default_memory()) as crew:
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
        raise InputError(f"--memory {text}: not a size; write it as 8GB or 512MB")
    return found


def fleet_rows(cells: Sequence[CellResult]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table: a row a cell, in the measures of all tasks that were measured."""
    from edgepeft.metrics.names import vocabulary
    from edgepeft.utils.quantities import number

    measured = [facts for cell in cells if (facts := _measures(cell))]
    if not measured:
        adapters = [str(cell.adapter) if cell.adapter else "–" for cell in cells]
        return (
            ["cell", "state", "adapter"],
            [[c.cell.name, c.state, place] for c, place in zip(cells, adapters, strict=True)],
        )
    words = [vocabulary(facts) for facts in measured]
    columns = {column.measure: column for word in words for column in word.columns}
    rates = {word.rate.measure: word.rate for word in words}

    def row(cell: CellResult) -> list[str]:
        facts = _measures(cell)
        if cell.bundle is None or not facts:
            return [cell.cell.name, *["–"] * (len(columns) + len(rates) + 1), cell.state]
        found = []
        for measure, column in columns.items():
            said = number(facts.get(measure), column.digits)
            wanted = facts.get(f"reference_{measure}")
            of = column.reference is None and wanted is not None
            found.append(f"{said} of {number(wanted, column.digits)}" if of else said)
        speeds = [facts.get(rate) for rate in rates]
        return [
            cell.cell.name,
            *found,
            f"{cell.bundle['bytes'] / 1e6:.0f}",
            *("–" if speed is None else f"{speed:.0f}" for speed in speeds),
            cell.state,
        ]

    titles = [column.title for column in columns.values()]
    header = ["cell", *titles, "MB", *(rate.title for rate in rates.values()), "state"]
    return header, [row(cell) for cell in cells]


def _measures(cell: CellResult) -> dict[str, Any]:
    """What was measured of a cell's bundle, empty where nothing was."""
    found: dict[str, Any] = (cell.bundle or {}).get("fidelity") or {}
    return found
