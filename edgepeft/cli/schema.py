"""``edgepeft schema``: the recipe's JSON Schema, for editors and forms."""

from __future__ import annotations

import json

import typer


def command() -> None:
    """Print the recipe's JSON Schema (draft 2020-12) on stdout."""
    from edgepeft.config.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
