"""``edgepeft methods``: the adapter methods there are, and the hyperparameters of one."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from edgepeft.cli.options import JsonOption
from edgepeft.cli.streams import say
from edgepeft.cli.tables import print_table


def command(
    name: Annotated[
        str | None, typer.Argument(metavar="METHOD", help="A method; shows its hyperparameters.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the adapter methods, or the hyperparameters of one."""
    from edgepeft.adapters.methods import all_methods, find_method

    chosen = [find_method(name)] if name is not None else list(all_methods().values())
    if as_json:
        facts = [
            {
                "name": method.name,
                "summary": method.summary,
                "peft_type": method.peft_type,
                "grids": list(method.grids),
                "default_grid": method.grid,
                "settings": dict(method.names),
                "defaults": {key: method.defaults[key] for key in method.names},
                "options": {key: option.help for key, option in method.options.items()},
            }
            for method in chosen
        ]
        typer.echo(json.dumps(facts if name is None else facts[0], indent=2))
        return
    if name is None:
        rows = [
            [method.name, method.summary, ", ".join(method.grids), ", ".join(method.names)]
            for method in chosen
        ]
        print_table(["method", "what it trains", "base grids", "settings"], rows)
        return
    (method,) = chosen
    say(f"{method.name}: {method.summary}")
    rows = [
        [f"method.{key}", f"PEFT's {peft}; default {method.defaults[key]:g}"]
        for key, peft in method.names.items()
    ]
    rows += [[f"method.options.{key}", option.help] for key, option in method.options.items()]
    print_table(["key", "what it does"], rows)
