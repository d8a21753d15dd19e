"""Every ``edgepeft`` command that README and docs show has options that exist, and names files that do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from edgepeft.cli.commands import app
from tests.docs.console import PAGES, ROOT, Block, blocks_of

PLACEHOLDERS = {
    *("recipe.yaml", "tickets.csv", "unseen.csv", "commands.jsonl", "BUNDLE", "bundle"),
    *("my-model", "my-adapter", "base", "base-model", "tuned", "tuned-model", "first", "second"),
    *("first.yaml", "second.csv", "home-control", "home-control.yaml", "support-desk"),
    *("support-desk.yaml", "customer-17", "customer-18", "customer-18.yaml"),
    # What make demo leaves, which README and other pages go on with.
    *("runs/home-control", "runs/message-team", "runs/message-words"),
}
"""Names that stand for the reader's own files."""

TAKES_FILES = {
    *("--model", "--adapter", "--data", "--test", "--prompts"),
    *("recipe", "run", "bundle", "bundles", "subject", "adapters", "adapter", "base", "tuned"),
}
"""Options and arguments whose values are names of files or folders, unless they are no path at all."""

_MODELS = {"smollm2-135m-instruct"}
_ANSWERS_AT_ONCE = {"--help", "--version"}


def pages() -> Iterator[tuple[str, list[Block]]]:
    for page in PAGES:
        blocks = blocks_of(page.name, page.read_text(encoding="utf-8"))
        if blocks:
            yield page.name, blocks


@pytest.mark.parametrize(("page", "blocks"), pages(), ids=lambda value: str(value)[:30])
def test_shown_commands_parse_and_name_files_that_exist(page: str, blocks: list[Block]) -> None:
    made: set[str] = set()
    for block in blocks:
        for line in block.lines:
            for words in commands_of(line):
                given = parsed(words)
                for name, value in given:
                    if name in TAKES_FILES:
                        assert exists(value, made), f"{page}: {line}: {value} is made by nothing"
                made |= makes(words[1:], given)


def commands_of(line: str) -> Iterator[list[str]]:
    """The words of each ``edgepeft`` command in a line of a shell, without pipes and redirections."""
    words = shlex.split(line)
    command: list[str] = []
    for word in [*words, "|"]:
        if word in ("|", "&&", ";", ">", ">>", "2>"):
            if command[:1] == ["edgepeft"]:
                yield command
            command = []
        else:
            command.append(word)


def parsed(words: list[str]) -> list[tuple[str, str]]:
    """What a command line gives, by an option's longest name or an argument's own; fails as the command would."""
    command, rest = typer.main.get_command(app), words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"{' '.join(words)}: no such command"
        command, rest = command.commands[rest[0]], rest[1:]
    context = command.make_context(words[0], list(rest), resilient_parsing=False)
    found = []
    for parameter in command.params:
        value = context.params.get(parameter.name or "")
        many = value if isinstance(value, list | tuple) else [value]
        name = max(parameter.opts, key=len)
        found += [(name, str(one)) for one in many if one not in (None, False)]
    return found


def exists(value: str, made: set[str]) -> bool:
    """Whether a value is a file of this repository, one that was made before, or one of the reader's own."""
    path = value.split("=")[-1].removeprefix("./").rstrip("/")
    if path in _MODELS or re.fullmatch(r"\d+%?", path):
        return True
    known = PLACEHOLDERS | made
    inside = any(path == one or path.startswith(f"{one}/") for one in known)
    return inside or (ROOT / path).exists()


def makes(words: list[str], given: list[tuple[str, str]]) -> set[str]:
    """The files and folders that a command leaves."""
    values = dict(given)
    if out := values.get("--out"):
        return {out.removeprefix("./")}
    if words[0] == "init":
        return {f"{Path(values['--data']).stem}.yaml"}
    source = values.get("recipe") or values.get("--data")
    if words[0] in ("build", "export") and source:
        return {f"runs/{Path(source).stem}"}
    return set()


@pytest.mark.parametrize(
    "line",
    [
        "edgepeft build recipe.yaml --no-such-option",
        "edgepeft biuld recipe.yaml",
        "edgepeft adapters ad BUNDLE x",
        "edgepeft serve BUNDLE --batch one",
    ],
)
def test_a_wrong_command_does_not_parse(line: str) -> None:
    (words,) = commands_of(line)
    with pytest.raises(Exception, match=r"(?i)no such|invalid|valid integer"):
        parsed(words)


def test_a_file_that_nothing_makes_is_told() -> None:
    assert not exists("nowhere.yaml", set())
    assert exists("made/bundles/cpu-int4", {"made"})


def test_a_comment_that_fits_no_block_is_told() -> None:
    with pytest.raises(ValueError, match="misspelt"):
        blocks_of("page.md", "<!-- run model=tiny -->\n\n```console\n$ edgepeft doctor\n```\n")


def test_every_command_is_on_a_page_of_its_options() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    page = (ROOT / "docs" / "commands-reference.md").read_text()
    for name in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert name in shown
        assert f"## edgepeft {name}" in page
