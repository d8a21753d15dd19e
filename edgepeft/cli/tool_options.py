"""`edgepeft run --tools`: what a model may call, and printing what it calls."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgepeft.utils.terminal_text import visible

if TYPE_CHECKING:
    from edgepeft.data.rows import Tool
    from edgepeft.runtime import Completion, Runtime

ToolsOption = Annotated[
    Path | None,
    typer.Option(
        "--tools",
        help="JSON file of the tools that may be called, in OpenAI's form; calls are printed as JSON, one in a "
        "line. Prompts of a file may have their own.",
        show_default=False,
    ),
]


def tools_of(path: Path | None, *, refused: dict[str, bool]) -> tuple[Tool, ...]:
    """The tools of a file, none without one.

    Raises InputError for a file that holds none, and for what does not go with it, of which ``refused`` says
    whether it was given.
    """
    if path is None:
        return ()
    from edgepeft.data.tools import read_tools_file
    from edgepeft.errors import InputError

    for name, given in refused.items():
        if given:
            raise InputError(f"--tools: does not go with {name}; leave one of them out")
    return read_tools_file(path, "--tools")


def called(runtime: Runtime, done: Completion, tools: tuple[Tool, ...]) -> list[dict[str, Any]]:
    """The calls of an answer: name and arguments of each."""
    calls = runtime.tool_use.parsed(done.ids, tools).calls
    return [dict(call["function"]) for call in calls]


def print_called(runtime: Runtime, done: Completion, tools: tuple[Tool, ...]) -> None:
    """Print an answer's text, if it has any, and its calls as JSON, one a line."""
    parsed = runtime.tool_use.parsed(done.ids, tools)
    if parsed.content or not parsed.calls:
        print(visible(parsed.content) if sys.stdout.isatty() else parsed.content)
    for call in parsed.calls:
        print(json.dumps(call["function"], ensure_ascii=False))
