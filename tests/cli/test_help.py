"""Help: commands in groups, nothing cut, and examples that typer's own parser takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from edgepeft.cli.commands import app
from edgepeft.cli.help import GROUPS
from tests.command import edgepeft
from tests.typed import parse_line


def every_command() -> Iterator[tuple[str, Any]]:
    """Every command by the words it is called with."""

    def walk(words: str, command: Any) -> Iterator[tuple[str, Any]]:
        for name, one in getattr(command, "commands", {}).items():
            yield f"{words}{name}", one
            yield from walk(f"{words}{name} ", one)

    return walk("", get_command(app))


COMMANDS = dict(every_command())


def test_commands_are_listed_in_groups_and_whole() -> None:
    done = edgepeft("--help", env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    titles = [line.removesuffix(":") for line in lines if re.fullmatch(r"[A-Z]\w+:", line)]
    assert titles == ["Options", *GROUPS]
    assert max(map(len, lines)) <= 80
    assert "..." not in done.stdout.partition("\n")[2]
    first = lines.index(f"{GROUPS[0]}:")
    listed = {line.split()[0] for line in lines[first:] if re.match(r"  \S", line)}
    assert listed == {words for words in COMMANDS if " " not in words}
    said = " ".join(done.stdout.split())
    for words in listed:
        sentence = COMMANDS[words].get_short_help_str(1000)
        assert f"{words} {sentence}" in said


@pytest.mark.parametrize("words", COMMANDS)
def test_each_command_shows_how_it_is_called(words: str) -> None:
    epilog = COMMANDS[words].epilog or ""
    assert epilog.startswith("Example: edgepeft ")
    line = epilog.removeprefix("Example: ")
    # Help indents by two, and a line that is to be copied is in one piece.
    assert len(epilog) <= 78
    assert " ".join(shlex.split(line)[1:]).startswith(words)
    parse_line(line)


def test_an_option_that_does_not_exist_is_no_example() -> None:
    with pytest.raises(Exception, match="--no-such"):
        parse_line("edgepeft build recipe.yaml --no-such option")
    with pytest.raises(Exception, match="nothing"):
        parse_line("edgepeft nothing")
