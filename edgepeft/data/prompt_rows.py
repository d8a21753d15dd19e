"""Files of prompts: a JSON object a line, with what is to be asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from edgepeft.data.fields import TOOLS, Field, Use, column
from edgepeft.data.messages import read_messages, read_string
from edgepeft.data.record_files import parse_json
from edgepeft.data.rows import Message, Tool
from edgepeft.data.tool_calls import fitted
from edgepeft.data.tools import row_tools
from edgepeft.data.usage import Usage
from edgepeft.errors import InputError, one_line

MAX_BYTES = 256 * 10**6
"""Of a file, which may be a pipe here: what is asked may come from another command."""
_ASKED = ("prompt", "text", "messages", "system", "query", "text_pair", "passage", *TOOLS)
_ANSWERS = (
    *("completion", "output", "chosen", "rejected", "label", "labels", "score", "positive"),
    *("negative", "tags"),
)
"""Columns of training and test rows that say what the answer is; nobody is asked with them."""


class TwoTexts(NamedTuple):
    """A text, and a second one that a model reads together with it."""

    text: str
    second: str


class WithTools(NamedTuple):
    """A conversation, and what may be called in it."""

    messages: list[Message]
    tools: tuple[Tool, ...]


Asked = tuple[str, str | TwoTexts | WithTools | list[Message]]
"""Where a prompt stands in its file, and its text, its two texts or its messages."""


def read_prompts(path: Path) -> tuple[list[Asked], list[str]]:
    """Every prompt of a file, and what is to be said of fields that are not used.

    A row of training or test data does as well: the answer that it ends with is left out. Raises InputError,
    naming the line, for one that asks nothing, that is no UTF-8, or with a field that can't be left out.
    """
    usage = Usage(str(path))
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: has more than {MAX_BYTES} bytes; split it")
    found = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        where = f"{path} line {number}"
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{where}: not UTF-8; save the file as UTF-8") from None
        if text.strip():
            found.append((where, _asked(text, where, usage)))
    if not found:
        raise InputError(f"{path}: no prompts in it")
    return found, usage.warnings()


def _asked(line: str, where: str, usage: Usage) -> str | TwoTexts | WithTools | list[Message]:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({one_line(error)})") from None
    fields: Mapping[str, Any] = row if isinstance(row, dict) else {}
    for name, value in fields.items():
        usage.take(name, value, _field(name), where)
    names = ("prompt", "text", "query", "messages")
    given = [name for name in names if fields.get(name) is not None]
    second = [name for name in ("text_pair", "passage") if fields.get(name) is not None]
    if len(given) != 1 or not isinstance(fields[given[0]], list if given[0] == "messages" else str):
        raise InputError(
            f'{where}: must have "prompt", a string, or "messages", a list of role and content'
        )
    if second and (len(second) > 1 or given[0] == "messages"):
        raise InputError(f'{where}: "{second[0]}" is a second text beside "text" or "query" alone')
    tools = row_tools(fields, where)
    if given[0] != "messages":
        text = read_string(fields[given[0]], f"{where}: {given[0]}")
        if second:
            return TwoTexts(text, read_string(fields[second[0]], f"{where}: {second[0]}"))
        alone: list[Message] = [{"role": "user", "content": text}]
        asked = _with_system(fields, alone, where)
        return WithTools(asked or alone, tools) if tools else asked or text
    turns = read_messages(fields["messages"], "messages", where, usage).messages
    # A row of training or test data ends with the answer that is being asked for.
    if turns[-1]["role"] == "assistant":
        turns.pop()
    if not turns:
        raise InputError(f'{where}: "messages" has no user turn')
    turns = fitted(_with_system(fields, turns, where) or turns, tools, where)
    return WithTools(turns, tools) if tools else turns


def _with_system(
    fields: Mapping[str, Any], turns: list[Message], where: str
) -> list[Message] | None:
    """The turns behind the row's own system message; None where a column gives none."""
    if not fields.get("system"):
        return None
    own = read_string(fields["system"], f"{where}: system")
    if turns[0]["role"] == "system":
        if turns[0]["content"] != own:
            raise InputError(
                f"{where}: system and the first message are two system messages; keep one"
            )
        return turns
    return [{"role": "system", "content": own}, *turns]


def _field(name: str) -> Field:
    if name in _ASKED:
        return Field(Use.used)
    if name in _ANSWERS:
        return Field(Use.harmless)
    known = column(name, "messages", ())
    return Field(Use.harmless) if known.refuses is not None else known
