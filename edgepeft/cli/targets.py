"""``edgepeft targets``: the devices a recipe can build for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from edgepeft.cli.options import JsonOption

if TYPE_CHECKING:
    from edgepeft.targets import TargetProfile


def command(as_json: JsonOption = False) -> None:
    """List the targets: purpose, requirements, and whether this machine can run them.

    A target that this machine can't run can still be built: its graph is then verified on the CPU, and the report
    says so.
    """
    from edgepeft.cli.tables import print_table
    from edgepeft.targets import all_targets

    rows = [(target, _here(target)) for target in all_targets().values()]
    if as_json:
        typer.echo(json.dumps([{**target.as_dict(), **here} for target, here in rows], indent=2))
        return
    print_table(
        ["target", "for", "weights", "grids", "needs", "executed here"],
        [
            [
                target.name,
                target.summary,
                f"{target.precision}, {target.io_dtype} i/o",
                _grids(target),
                target.needs,
                f"yes, {here['adapter']}" if here["executes_here"] else "no, graph verified on CPU",
            ]
            for target, here in rows
        ],
    )


def _grids(target: TargetProfile) -> str:
    """The choices a target leaves for integer weights."""
    if not target.bits:
        return "-"
    blocks = f"blocks {target.block_sizes[0]} to {target.block_sizes[-1]}"
    kind = ", symmetric" if target.symmetric == (True,) else ""
    heads = "" if len(target.heads) > 1 else f", head {target.heads[0]}"
    return f"{blocks}{kind}{heads}"


def _here(target: TargetProfile) -> dict[str, Any]:
    """Whether a bundle for the target would be executed on this machine, on what, and if not, why."""
    from edgepeft.evaluation.execution import choose_execution

    found = choose_execution(target.provider, target.io_dtype)
    adapter = found.adapter or found.checked or ("CPU" if found.missing is None else None)
    return {
        "executes_here": found.missing is None,
        "adapter": adapter,
        "missing": found.missing,
    }
