"""Whether a model's chat template takes the rows of a recipe, told before anything is staged."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from edgepeft.data.control_tokens import Policy
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Message, Row
from edgepeft.data.tool_checks import refuse_unwritten
from edgepeft.errors import InputError

_KINDS = 16
"""Kinds of conversations, by the roles of their turns, that are rendered."""
_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)


def render_kinds(folder: Path, template: str, policy: Policy, rows: Iterable[Row]) -> None:
    """Render one row of each kind of conversation as the model in ``folder`` reads it.

    Raises InputError, naming the row, where the template or the tokenizer refuses it.
    """
    files = [*(folder / name for name in _FILES), Path(template)]
    stamps = tuple(file.stat().st_mtime_ns for file in files if file.is_file())
    prompter = _prompter(folder, template, policy, stamps)
    require_written(prompter, rows)


def require_written(prompter: Prompter, rows: Iterable[Row]) -> None:
    """Raise InputError, naming the row, where a template refuses a kind of conversation, or leaves something out.

    One row of each kind is rendered: who speaks in which order, and whether there are tools and calls.
    """
    kinds: dict[tuple[str, ...], Row] = {}
    for row in rows:
        roles = tuple(
            f"{turn['role']}{' calls' if 'tool_calls' in turn else ''}"
            for turn in row.messages or ()
        )
        if len(kinds) < _KINDS and roles:
            kinds.setdefault(("tools", *roles) if row.tools else roles, row)
    for row in kinds.values():
        prompter.split(row)
        _refuse_silence(prompter, row)
        refuse_unwritten(prompter, row)


def _refuse_silence(prompter: Prompter, row: Row) -> None:
    """Raise InputError for a template that writes the same whatever turns say."""
    turns = row.messages or ()
    if prompter.mode != "chat" or not any(turn["content"].strip() for turn in turns):
        return
    others: list[Message] = [{**turn, "content": f"{turn['content']}x"} for turn in turns]
    said = prompter.renderer.conversation(turns, row.where).text
    try:
        silent = prompter.renderer.conversation(others, row.where).text == said
    except InputError:
        return  # it looks at what is said
    if silent:
        raise InputError(
            f"{row.where}: the chat template leaves out what turns say; set data.template to plain or to a file"
        )


@lru_cache(maxsize=2)
def _prompter(folder: Path, template: str, policy: Policy, stamps: tuple[int, ...]) -> Prompter:
    """A model's prompter, read once for all cells of a fleet while its files (``stamps``) are the same."""
    return Prompter.from_folder(folder, template, policy)
