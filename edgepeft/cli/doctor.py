"""``edgepeft doctor``: what is installed, what hardware there is, what is wrong, what an extra lacks."""

from __future__ import annotations

import json
from typing import Any

import typer

from edgepeft.cli.options import JsonOption
from edgepeft.errors import MissingError


def command(as_json: JsonOption = False) -> None:
    """Name versions, hardware and problems; exit 3 if something installed can't work."""
    from edgepeft.cli.tables import print_table
    from edgepeft.utils import environment as doctor
    from edgepeft.utils.extras import extras
    from edgepeft.utils.quantities import megabytes

    installed = doctor.versions()
    wrong = doctor.problems(installed)
    machine = doctor.hardware()
    if as_json:
        facts = {
            "versions": installed,
            "hardware": machine,
            "extras": {extra.name: extra.as_json() for extra in extras()},
            "problems": wrong,
        }
        typer.echo(json.dumps(facts, indent=2))
    else:
        typer.echo(f"system     {machine['system']}")
        flags = " ".join(machine["instructions"])
        typer.echo(f"processor  {machine['processor']}, {machine['cores']} processors, {flags}")
        typer.echo(f"threads    {_threads(machine)}")
        typer.echo(
            f"memory     {megabytes(machine['free_memory_bytes'])} free of "
            f"{megabytes(machine['memory_bytes'])}; disk {megabytes(machine['free_disk_bytes'])} free"
        )
        typer.echo(f"gpu        {'; '.join(machine['gpus']) or 'none seen'}")
        state = "off" if machine["telemetry"]["off"] else "ON"
        typer.echo(f"telemetry  {state} ({', '.join(machine['telemetry']['switches'])})")
        print_table(
            ["library", "version"],
            [[name, version or "not installed"] for name, version in installed.items()],
        )
        print_table(
            ["extra", "for", "state"],
            [[extra.install, extra.purpose, extra.state] for extra in extras()],
        )
        for line in wrong:
            typer.echo(f"problem    {line}", err=True)
        if not wrong:
            typer.echo("No problems found")
    if wrong:
        raise MissingError(wrong[0])


def _threads(machine: dict[str, Any]) -> str:
    """How many threads engines and stages compute with, and why so many."""
    why = f"one for each of {machine['physical_cores']} physical cores"
    if machine["cpu_quota"] is not None:
        why += f", within a quota of {machine['cpu_quota']:g} processors"
    return f"{machine['threads']}: {why}"
