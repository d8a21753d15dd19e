"""``edgepeft doctor``: what is installed, what hardware there is, what is wrong, what an extra would add."""

from __future__ import annotations

import json

import typer

from edgepeft.cli.options import JsonOption
from edgepeft.errors import MissingError


def command(as_json: JsonOption = False) -> None:
    """Name versions, hardware and problems; exit 3 if something installed can't work."""
    from edgepeft import doctor
    from edgepeft.cli.tables import megabytes, print_table

    installed = doctor.versions()
    wrong = doctor.problems(installed)
    machine = doctor.hardware()
    extras = doctor.extras(installed)
    if as_json:
        facts = {"versions": installed, "hardware": machine, "extras": extras, "problems": wrong}
        typer.echo(json.dumps(facts, indent=2))
    else:
        typer.echo(f"system     {machine['system']}")
        flags = " ".join(machine["instructions"])
        typer.echo(f"processor  {machine['processor']}, {machine['cores']} cores, {flags}")
        typer.echo(
            f"memory     {megabytes(machine['free_memory_bytes'])} free of "
            f"{megabytes(machine['memory_bytes'])}; disk {megabytes(machine['free_disk_bytes'])} free"
        )
        typer.echo(f"gpu        {'; '.join(machine['gpus']) or 'none seen'}")
        print_table(
            ["library", "version"],
            [[name, version or "not installed"] for name, version in installed.items()],
        )
        print_table(
            ["extra", "for", "state"],
            [
                [
                    f"edgepeft[{name}]",
                    facts["for"],
                    "complete" if facts["complete"] else "would add " + ", ".join(facts["adds"]),
                ]
                for name, facts in extras.items()
            ],
        )
        for line in wrong:
            typer.echo(f"problem    {line}", err=True)
    if wrong:
        raise MissingError(wrong[0])
