"""Preference rows: a conversation, the answer that is preferred, and the one that is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgepeft.data.fields import Field, Use
from edgepeft.data.messages import Turns, read_messages, read_string
from edgepeft.data.rows import Message, said
from edgepeft.data.usage import Usage
from edgepeft.errors import InputError

PROMPTS = ("prompt", "messages", "conversations")
"""Columns that may hold what is answered; where none does, it is what both answers begin with."""

_MEND = "cut both to the first answer that differs"


def prompts_beside(names: Iterable[str]) -> dict[str, Field]:
    """What becomes of columns that might hold the prompt, where another one does."""
    there = [name for name in PROMPTS if name in set(names)]
    return {name: Field(Use.unused, f"the prompt is in {there[0]}") for name in there[1:]}


def read_preference(record: Mapping[str, Any], where: str, usage: Usage) -> tuple[Turns, Message]:
    """The conversation up to the preferred answer, and the rejected one. Raises InputError.

    ``chosen`` and ``rejected`` are an answer's text, its message, or (as TRL has it) the messages of a whole
    conversation: what both begin with is then part of the prompt.
    """
    chosen = _answers(record, "chosen", where, usage)
    rejected = _answers(record, "rejected", where, usage)
    named = next((name for name in PROMPTS if name in record), None)
    if named is not None and not record[named]:
        named = None
    prompt = Turns()
    if named is not None:
        value = record[named]
        if isinstance(value, str):
            prompt.add({"role": "user", "content": read_string(value, f"{where}: {named}")})
        else:
            prompt = read_messages(value, named, where, usage)
    chosen, rejected = (_behind(prompt, turns, where) for turns in (chosen, rejected))
    common = 0
    for ours, theirs in zip(chosen.messages[:-1], rejected.messages[:-1], strict=False):
        if ours != theirs:
            break
        common += 1
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if len(turns.messages) - common != 1:
            raise InputError(
                f"{where}: {name} goes on for {len(turns.messages) - common} turns where it parts from the other "
                f"one; only a last answer can be preferred, {_MEND}"
            )
        if turns.messages[-1]["role"] != "assistant":
            raise InputError(
                f"{where}: {name} ends with {turns.messages[-1]['role']!r}; end it with an assistant turn"
            )
    if len(chosen.messages) - 1 in chosen.unlearned:
        raise InputError(
            f"{where}: the chosen answer is not to be learned (weight: 0); drop the row"
        )
    answer = rejected.messages[-1]
    if not said(answer).strip():
        raise InputError(f"{where}: the rejected answer is empty; fill it in or drop the row")
    if answer == chosen.messages[-1]:
        raise InputError(f"{where}: chosen and rejected are the same; drop the row")
    if not prompt.messages and not common:
        raise InputError(
            f"{where}: nothing that is answered: there is no prompt, and chosen and rejected begin with "
            "different "
            "turns; put what both answer into a column prompt"
        )
    prompt.extend(chosen)
    return prompt, answer


def _answers(record: Mapping[str, Any], column: str, where: str, usage: Usage) -> Turns:
    """What a column of an answer holds, as turns."""
    value = record.get(column)
    if value is None:
        raise InputError(f"{where}: no {column}; every row needs one")
    if isinstance(value, list | dict):
        return read_messages(value, column, where, usage)
    turns = Turns()
    turns.add({"role": "assistant", "content": read_string(value, f"{where}: {column}")})
    return turns


def _behind(prompt: Turns, turns: Turns, where: str) -> Turns:
    """The turns of an answer without the prompt, where they repeat it."""
    repeated, rest = len(prompt.messages), turns.messages
    if repeated and rest[:repeated] == prompt.messages:
        return Turns(rest[repeated:], {n - repeated for n in turns.unlearned if n >= repeated})
    asked = repeated and prompt.messages[-1]["role"] == "user"
    if repeated and (rest[0]["role"] == "system" or (asked and rest[0]["role"] == "user")):
        raise InputError(
            f"{where}: chosen and rejected begin with other turns than the prompt; keep the conversation in "
            "one place"
        )
    return turns
