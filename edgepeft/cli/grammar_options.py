"""What bounds the answers of a command: its options, and the grammar they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edgepeft.guidance import Grammar

_PANEL = "What an answer may be (extra guided)"


def _bound(name: str, words: str) -> Any:
    """An option that bounds answers: nothing is bounded by default."""
    return typer.Option(name, help=words, rich_help_panel=_PANEL, show_default=False)


SchemaOption = Annotated[
    Path | None, _bound("--json-schema", "A JSON Schema: the answer is JSON that fits it.")
]
RegexOption = Annotated[
    str | None, _bound("--regex", "A regular expression that the whole answer fits.")
]
GrammarOption = Annotated[
    Path | None, _bound("--grammar", "A file with a Lark grammar that the answer follows.")
]
ChoicesOption = Annotated[str | None, _bound("--choices", "The answer is one of these, as a,b,c.")]
FreeOption = Annotated[
    bool,
    typer.Option(
        "--free",
        help="Any answer where nothing else is asked for, also of a bundle with a schema.",
        rich_help_panel=_PANEL,
    ),
]


def grammar_of(
    json_schema: Path | None = None,
    regex: str | None = None,
    grammar: Path | None = None,
    choices: str | None = None,
    free: bool = False,
) -> Grammar | None:
    """The grammar that the options ask for; None where the bundle's own, if any, is to count.

    Raises InputError for two of them and for one that is none, MissingError without llguidance.
    """
    from edgepeft.errors import InputError
    from edgepeft.guidance import FREE, Grammar

    given = {
        "--json-schema": json_schema is not None,
        "--regex": regex is not None,
        "--grammar": grammar is not None,
        "--choices": choices is not None,
        "--free": free,
    }
    named = [name for name, there in given.items() if there]
    if len(named) > 1:
        raise InputError(f"{named[0]}: one of them bounds an answer; leave {named[1]} out")
    if json_schema is not None:
        return Grammar.read("json_schema", json_schema, "--json-schema")
    if regex is not None:
        return Grammar.regex(regex, "--regex")
    if grammar is not None:
        return Grammar.read("lark", grammar, "--grammar")
    if choices is not None:
        return Grammar.choices([text.strip() for text in choices.split(",")], "--choices")
    return FREE if free else None
