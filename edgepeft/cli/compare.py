"""``edgepeft compare``: ways to quantize one run's adapter, measured side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from edgepeft.cli.options import JsonOption, ProgressMode, ProgressOption
from edgepeft.cli.reports import JunitOption, SummaryOption, reporting

DEFAULT_AXES = (
    "targets=cpu-int4,cpu-int8",
    "quantize.algorithm=rtn,gptq",
    "quantize.head=int4,int8",
)


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            metavar="KEY=A,B",
            help="A recipe key and the values to try, as quantize.block_size=16,32. Repeatable; every "
            f"combination is built. Default: {' '.join(DEFAULT_AXES)}.",
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture", help="Also write a plot of size against fidelity to this PNG or SVG file."
        ),
    ] = None,
    as_json: JsonOption = False,
    progress: ProgressOption = ProgressMode.auto,
    junit: JunitOption = None,
    summary: SummaryOption = None,
) -> None:
    """Build and measure variants of one run: other bases, grids and algorithms for the same adapter.

    Nothing is trained again and earlier measurements are reused. The run's own bundles are not changed.
    """
    from edgepeft.cli.progress import show_events
    from edgepeft.cli.tables import print_table
    from edgepeft.errors import EdgepeftError, InputError
    from edgepeft.pipeline.compare import compare, draw, scatter
    from edgepeft.utils.whole_files import require_writable

    if picture is not None and picture.suffix not in (".png", ".svg"):
        raise InputError(f"--picture {picture}: the name must end in .png or .svg")
    if picture is not None:
        require_writable(picture)
    with reporting(junit, summary, run.resolve().name) as report:
        with show_events(progress) as sink:
            entries = compare(run, vary or DEFAULT_AXES, sink)
        report.add_compared(entries)
    if as_json:
        typer.echo(json.dumps(entries, indent=2))
    else:
        print_table(*comparison_rows(entries))
        if picture_in_text := scatter(entries):
            typer.echo(picture_in_text)
    if picture is not None:
        draw(entries, picture)
    if all("error" in entry for entry in entries):
        raise EdgepeftError(f"compare: nothing could be measured: {entries[0]['error']}")


def comparison_rows(entries: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table, smallest bundle first, failures last."""
    from edgepeft.pipeline.compare import label, vocabulary_of
    from edgepeft.utils.quantities import number

    words = vocabulary_of(entries)
    measures = [column.title for column in words.compared]
    header = ["#", "variant", "linear", "head", "MB", *measures, words.rate.title, "gates"]
    rows = []
    for index, entry in enumerate(entries, 1):
        variant = label(entry["values"])
        if "error" in entry:
            blank = ["–"] * (len(header) - 3)
            rows.append((float("inf"), [str(index), variant, entry["error"], *blank]))
            continue
        facts, weights = entry["fidelity"], entry["weights"]
        speed = words.rate.of(facts)
        cells = [
            *(str(index), variant, str(weights["linear"]), str(weights["head"])),
            f"{entry['bytes'] / 1e6:.1f}",
            *(number(column.of(facts), column.digits) for column in words.compared),
            "–" if speed is None else f"{speed:.0f}",
            "passed" if entry["gates"] == "passed" else "MISSED",
        ]
        rows.append((entry["bytes"], cells))
    return header, [cells for _, cells in sorted(rows, key=lambda row: row[0])]
