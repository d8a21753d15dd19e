"""From a record (a row's columns, whatever file they came from) to a `Row`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgepeft.data.fields import BESIDE, Field, Use, column, says_nothing
from edgepeft.data.messages import Turns, read_messages, read_string
from edgepeft.data.preferences import prompts_beside, read_preference
from edgepeft.data.rows import Message, Row
from edgepeft.data.shape_names import COLUMNS, SHAPES, Record, find_shape, listed
from edgepeft.data.text_rows import TEXT_ROWS, string_column
from edgepeft.data.tool_calls import fitted
from edgepeft.data.tools import row_tools
from edgepeft.data.usage import Usage, take_columns
from edgepeft.errors import InputError

Build = Callable[[Mapping[str, Any], str, Usage], Turns]


def rename(records: Sequence[Record], columns: Mapping[str, str], file: str) -> list[Record]:
    """``records`` with their columns under our names, by ``columns`` (ours to theirs).

    Raises InputError for a name of ours that does not exist and a column of theirs no row has.
    """
    beside = {name for names in BESIDE.values() for name in names}
    known = sorted({name for names in COLUMNS.values() for name in names} | beside)
    there = list(dict.fromkeys(name for _, record in records for name in record))
    for ours, theirs in columns.items():
        if ours not in known:
            raise InputError(f"data.columns: no column {ours!r}; ours are {', '.join(known)}")
        if theirs not in there:
            raise InputError(
                f"{file}: no column {theirs!r} for data.columns.{ours}; it has {listed(there)}"
            )
    renamed = []
    for where, record in records:
        kept = {
            name: value
            for name, value in record.items()
            if name not in columns and name not in columns.values()
        }
        mapped = {ours: record[theirs] for ours, theirs in columns.items() if theirs in record}
        renamed.append((where, {**kept, **mapped}))
    return renamed


def to_rows(
    records: Sequence[Record],
    shape: str,
    system: str | None,
    file: str,
    *,
    preferred: Iterable[str] = (),
    usage: Usage | None = None,
) -> list[Row]:
    """The records as rows of ``shape`` ("auto": by the first record's columns).

    Where several shapes fit, one that uses a ``preferred`` column wins. ``usage`` learns what is used of them.
    Raises InputError for columns that match no known layout, a record that does not fit its own, and a refused
    field.
    """
    usage = usage or Usage(file)
    chosen = find_shape(shape, records[0][1], file, set(preferred))
    names = dict.fromkeys(name for _, record in records for name in record)
    fields = {name: column(name, chosen, COLUMNS[chosen]) for name in names}
    if chosen == "preference":
        fields |= prompts_beside(names)
    elif chosen == "messages" and len({"messages", "conversations"} & set(names)) == 2:
        fields["conversations"] = Field(Use.unused, "the turns are in messages")
    return [_row(record, where, chosen, system, fields, usage) for where, record in records]


def _row(
    record: Mapping[str, Any],
    where: str,
    shape: str,
    system: str | None,
    fields: Mapping[str, Field],
    usage: Usage,
) -> Row:
    take_columns(usage, record, fields, where)
    if shape in TEXT_ROWS:
        return TEXT_ROWS[shape](record, where)
    rejected: Message | None = None
    if shape == "preference":
        turns, rejected = read_preference(record, where, usage)
    else:
        turns = _CONVERSATIONS[shape](record, where, usage)
    if all(turn["role"] == "assistant" for turn in turns.messages):
        raise InputError(f"{where}: nothing for the assistant to answer; add a user turn")
    _add_system(turns, record, system, where)
    tools = row_tools(record, where)
    turns.messages = fitted(turns.messages, tools, where)
    if rejected is not None:
        (rejected,) = fitted([rejected], tools, where)
    return replace(_conversation(turns, where, usage), rejected=rejected, tools=tools)


def _conversation(turns: Turns, where: str, usage: Usage) -> Row:
    """A row of turns, without those behind the last one that is learned."""
    messages = turns.messages
    if messages[-1]["role"] != "assistant":
        raise InputError(
            f"{where}: the last turn is {messages[-1]['role']!r}; end it with an assistant turn"
        )
    answers = [place for place, turn in enumerate(messages) if turn["role"] == "assistant"]
    learned = [place for place in answers if place not in turns.unlearned]
    if not learned:
        raise InputError(
            f"{where}: no assistant turn is to be learned (weight: 0, train: false); drop the row"
        )
    last = learned[-1]
    if last < len(messages) - 1:
        usage.leave_out("turns behind the last one that is learned", "nothing follows them", where)
    unlearned = frozenset(place for place in turns.unlearned if place < last)
    return Row(tuple(messages[: last + 1]), None, where, unlearned=unlearned)


def _add_system(turns: Turns, record: Mapping[str, Any], system: str | None, where: str) -> None:
    """Put the system message in front: the row's own, in a column, or the recipe's where it has none."""
    own = record.get("system")
    if not says_nothing(own):
        own = read_string(own, f"{where}: system")
        first = turns.messages[0]
        if first["role"] != "system":
            turns.insert_system(own)
        elif first["content"] != own:
            raise InputError(
                f"{where}: the column system and the first message are two system messages; keep one"
            )
    elif system is not None and turns.messages[0]["role"] != "system":
        turns.insert_system(system)


def _from_messages(record: Mapping[str, Any], where: str, usage: Usage) -> Turns:
    name = "messages" if "messages" in record else "conversations"
    return read_messages(record.get(name), name, where, usage)


def _from_prompt(record: Mapping[str, Any], where: str, usage: Usage) -> Turns:
    turns = _history(record, where, usage)
    turns.extend(_turns(record, "prompt", "user", where, usage))
    turns.extend(_turns(record, "completion", "assistant", where, usage))
    return turns


def _from_instruction(record: Mapping[str, Any], where: str, usage: Usage) -> Turns:
    question = string_column(record, "instruction", where)
    if record.get("input") not in (None, ""):
        question += "\n\n" + string_column(record, "input", where)
    turns = _history(record, where, usage)
    turns.add({"role": "user", "content": question})
    turns.add({"role": "assistant", "content": string_column(record, "output", where)})
    return turns


def _history(record: Mapping[str, Any], where: str, usage: Usage) -> Turns:
    """Earlier turns in a column of their own: pairs of question and answer, or messages."""
    value = record.get("history")
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)  # as CSV has it
        except (ValueError, RecursionError):
            value = record.get("history")
    if says_nothing(value):
        return Turns()
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return read_messages(value, "history", where, usage)
    turns = Turns()
    for number, pair in enumerate(value if isinstance(value, list) else [None], 1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise InputError(f"{where}: history should be a list of [question, answer] pairs")
        for role, text in zip(("user", "assistant"), pair, strict=True):
            said = read_string(text, f"{where}: history[{number}]")
            turns.add({"role": role, "content": said})
    return turns


def _turns(record: Mapping[str, Any], column: str, role: str, where: str, usage: Usage) -> Turns:
    """A column that holds one turn's text, or (as TRL has it) a list of messages."""
    if isinstance(record.get(column), list):
        return read_messages(record[column], column, where, usage)
    turns = Turns()
    turns.add({"role": role, "content": string_column(record, column, where)})
    return turns


_CONVERSATIONS: dict[str, Build] = {
    "messages": _from_messages,
    "prompt": _from_prompt,
    "instruction": _from_instruction,
}
assert {*TEXT_ROWS, *_CONVERSATIONS, "preference"} == set(SHAPES)
