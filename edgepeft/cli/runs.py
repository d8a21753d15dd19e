"""``edgepeft runs``: what was built on this machine, and how it went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edgepeft.cli.options import JsonOption
from edgepeft.cli.streams import say


def command(
    folder: Annotated[Path, typer.Argument(help="Folder to search for further runs.")] = Path(
        "runs"
    ),
    as_json: JsonOption = False,
) -> None:
    """List the runs of this machine and those in a folder, newest first."""
    from edgepeft.cli.tables import print_table
    from edgepeft.runs.index import all_runs

    damaged: list[str] = []
    runs = all_runs(folder, damaged)
    for line in damaged:
        say(f"left out {line}", err=True)
    if as_json:
        typer.echo(json.dumps(runs, indent=2))
        return
    if not runs:
        say("no runs yet; start one with edgepeft build RECIPE")
        return
    print_table(
        ["run", "state", "started", "model", "targets", "exact match", "folder"],
        [
            [
                str(run.get("name", "")),
                str(run.get("state", "")),
                str(run.get("started", ""))[:16].replace("T", " "),
                str(run.get("model", "")),
                " ".join(run.get("targets") or []),
                " ".join(_exact_matches(run)),
                str(run["path"]),
            ]
            for run in runs
        ],
    )


def _exact_matches(run: dict[str, object]) -> list[str]:
    result = run.get("result")
    bundles = (result.get("bundles") or []) if isinstance(result, dict) else []
    found = []
    for bundle in bundles:
        value = (bundle.get("fidelity") or {}).get("exact_match")
        found.append("–" if value is None else f"{value:.3f}")
    if len(found) <= 4:
        return found
    # A matrix may have hundreds.
    measured = [value for value in found if value != "–"] or ["–"]
    return [min(measured), "…", max(measured), f"({len(found)})"]
