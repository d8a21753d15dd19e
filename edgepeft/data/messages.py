"""Reading a list of messages, in the forms of OpenAI, transformers, TRL and ShareGPT."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from edgepeft.data.fields import CALLS, LEARNING, REASONING, TEXT_PARTS, message_key, says_nothing
from edgepeft.data.plain_text import refuse_halves
from edgepeft.data.rows import ROLES, Message, ToolCall
from edgepeft.data.tool_calls import read_calls
from edgepeft.data.usage import Usage
from edgepeft.errors import InputError

_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "developer": "system",
    **dict.fromkeys(("function", "observation", "ipython"), "tool"),
}
"""Roles of other names."""
_CALLING_ROLES = ("function_call", "tool_call")
"""Roles of ShareGPT's turns of an assistant whose whole text is a call."""


@dataclass
class Turns:
    """Messages, and the places of assistant turns that are not to be learned."""

    messages: list[Message] = field(default_factory=list)
    unlearned: set[int] = field(default_factory=set)

    def add(self, message: Message, *, learned: bool = True) -> None:
        """A turn at the end."""
        if not learned:
            self.unlearned.add(len(self.messages))
        self.messages.append(message)

    def extend(self, other: Turns) -> None:
        """The turns of ``other`` at the end."""
        for place, message in enumerate(other.messages):
            self.add(message, learned=place not in other.unlearned)

    def insert_system(self, content: str) -> None:
        """A system message in front."""
        self.messages.insert(0, {"role": "system", "content": content})
        self.unlearned = {place + 1 for place in self.unlearned}


def read_messages(value: object, column: str, where: str, usage: Usage) -> Turns:
    """The turns that a column holds. Raises InputError, naming the row and the message, for what is none."""
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        raise InputError(
            f"{where}: {column} should be a list of messages, is {kind_of(value)}; "
            'write [{"role": "user", "content": "…"}, …]'
        )
    turns = Turns()
    for number, item in enumerate(value, 1):
        place = f"{where}: {column}[{number}]"
        if not isinstance(item, dict):
            raise InputError(f"{place} should be an object with role and content")
        # Parquet gives every message every key, so an absent key and a null one are the same.
        role = item.get("role") if item.get("role") is not None else item.get("from")
        calls_alone = role in _CALLING_ROLES
        if isinstance(role, str):
            role = "assistant" if calls_alone else _ROLES.get(role, role)
        used = {
            name: part
            for name, part in item.items()
            if usage.take(f"{column}[].{name}", part, message_key(name, str(role)), place)
        }
        content = item.get("content") if item.get("content") is not None else item.get("value")
        if isinstance(content, list):
            content = _joined(content, place)
        if role == "tool" and isinstance(content, dict):
            content = json.dumps(content, ensure_ascii=False)
        if calls_alone:
            used, content = {**used, CALLS[0]: content}, ""
        calls = _calls(used, place)
        if calls and content is None:
            content = ""
        if not isinstance(role, str) or not isinstance(content, str):
            raise InputError(f"{place} needs role and content (or from and value), both strings")
        refuse_halves(content, f"{place} content")
        if role not in ROLES:
            raise InputError(f"{place} has the unknown role {role!r}; use {', '.join(ROLES[:3])}")
        message: Message = {"role": role, "content": content}
        if (reasoning := _reasoning(used, place)) is not None:
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = calls
        if role == "tool":
            if "name" in used:
                message["name"] = read_string(used["name"], f"{place} name")
            if "tool_call_id" in used:
                message["tool_call_id"] = str(used["tool_call_id"])
        turns.add(message, learned=role != "assistant" or _is_learned(item, place))
    return turns


def read_string(value: object, what: str) -> str:
    """A text that a row must have; ``what`` names row and column. Raises InputError."""
    if not isinstance(value, str):
        raise InputError(f"{what} should be a string, is {kind_of(value)}; put it in quotes")
    refuse_halves(value, what)
    return value


def kind_of(value: object) -> str:
    """What a value is, in words."""
    names = {
        str: "a string", bool: "true or false", int: "a number", float: "a number",
        list: "a list" if value else "an empty list", dict: "an object", type(None): "missing",
    }  # fmt: skip
    return names.get(type(value), f"a {type(value).__name__}")


def _joined(parts: list[Any], place: str) -> str:
    """The text of a content that comes in parts."""
    texts = []
    for number, part in enumerate(parts, 1):
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        if kind not in TEXT_PARTS:
            raise InputError(
                f"{place}: part {number} of its content is of type {kind!r}; edgepeft learns from text alone, "
                "take "
                "the row out"
            )
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str):
            raise InputError(
                f"{place} needs a text in every part of its content; part {number} has none"
            )
        texts.append(text)
    return "".join(texts)


def _reasoning(used: dict[str, Any], place: str) -> str | None:
    """What an assistant thought, whatever it is called."""
    given = {name: used[name] for name in REASONING if name in used}
    for name, text in given.items():
        read_string(text, f"{place} {name}")
    if len(set(given.values())) > 1:
        raise InputError(f"{place} has {' and '.join(given)}, which differ; keep one")
    return next(iter(given.values()), None)


def _calls(used: dict[str, Any], place: str) -> list[ToolCall]:
    """What an assistant calls, in either of OpenAI's forms."""
    given = [name for name in CALLS if name in used]
    if len(given) > 1:
        raise InputError(f"{place} has {' and '.join(given)}; keep one")
    return read_calls(used[given[0]], f"{place} {given[0]}") if given else []


def _is_learned(item: dict[str, Any], place: str) -> bool:
    """Whether a turn is to be learned, as far as it says."""
    for name in LEARNING:
        value = item.get(name)
        if says_nothing(value):
            continue
        if value not in (0, 1):
            raise InputError(
                f"{place} {name}: {value!r} is neither 0 nor 1; a turn is learned, or it is not"
            )
        if not value:
            return False
    return True
