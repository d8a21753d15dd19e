"""``edgepeft targets``: the devices a recipe can build for."""

from __future__ import annotations

import json

import typer

from edgepeft.cli.options import JsonOption


def command(as_json: JsonOption = False) -> None:
    """List the targets: provider, precision, and on what a bundle is verified here."""
    from edgepeft.cli.tables import print_table
    from edgepeft.targets import all_targets

    targets = list(all_targets().values())
    if as_json:
        typer.echo(json.dumps([target.as_dict() for target in targets], indent=2))
        return
    print_table(
        ["target", "for", "provider", "weights", "verified on"],
        [
            [
                target.name,
                target.summary,
                target.provider.removesuffix("ExecutionProvider"),
                target.precision,
                target.verify_provider.removesuffix("ExecutionProvider"),
            ]
            for target in targets
        ],
    )
