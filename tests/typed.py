"""A line as one types it, taken apart by the parser of the command itself; nothing is run."""

from __future__ import annotations

import shlex
from typing import Any

from typer.main import get_command

from edgepeft.cli.commands import app


def parse_line(line: str) -> dict[str, Any]:
    """The values that ``edgepeft ...`` gives its command. Raises what the parser raises for a wrong one.

    What a shell would do with the rest of the line is left out.
    """
    words = shlex.split(line, comments=True)
    for ending in (">", "|", "&&", "||", ";"):
        if ending in words:
            words = words[: words.index(ending)]
    program, *rest = words
    assert program == "edgepeft", line
    command: Any = get_command(app)
    name = program
    while hasattr(command, "commands"):
        assert rest, f"{line}: no command"
        name, *rest = rest
        found = command.commands.get(name)
        if found is None:
            raise ValueError(f"{line}: no command {name}")
        command = found
    values: dict[str, Any] = command.make_context(name, rest).params
    return values
