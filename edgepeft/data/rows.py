"""One row of data, whatever file it came from: a conversation, or a text and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NotRequired, TypedDict

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")


Tool = Mapping[str, Any]
"""A function that an assistant may call, as templates expect it: ``{"type": "function", "function": {...}}``."""


class Function(TypedDict):
    """What is called, and with what."""

    name: str
    arguments: dict[str, Any]


class ToolCall(TypedDict):
    """A call as chat templates expect it; ``id`` is what its result is told by."""

    type: Literal["function"]
    function: Function
    id: NotRequired[str]


class Message(TypedDict):
    """One turn of a conversation, as chat templates expect it; ``role`` is one of ``ROLES``.

    ``reasoning_content`` is what an assistant thought before it answered, ``tool_calls`` what it calls; ``name``
    and ``tool_call_id`` say of a tool's turn which tool answers, and which call.
    """

    role: str
    content: str
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]
    name: NotRequired[str]
    tool_call_id: NotRequired[str]


def said(turn: Message) -> str:
    """All that a turn says in one text: its content, and behind it its calls as JSON."""
    calls = [call["function"] for call in turn.get("tool_calls", ())]
    written = json.dumps(calls, ensure_ascii=False) if calls else ""
    return "\n".join(filter(None, (turn["content"], written)))


def spoken(messages: Sequence[Any], tools: Sequence[Tool]) -> list[tuple[Any, str]]:
    """Each of the ``messages`` with the role whose text it is; last the ``tools``, which whoever asks defines."""
    return [*((turn, turn["role"]) for turn in messages), ([dict(tool) for tool in tools], "user")]


@dataclass(frozen=True)
class Row:
    """One example. Exactly one of ``messages`` (ends with an assistant turn) and ``text`` is set.

    ``where`` is how the user finds it again, e.g. ``"train.jsonl line 12"``. ``rejected`` is the answer that a
    preference row holds against its own. ``unlearned`` are the places of assistant turns that are not to be
    learned, never the last. A text may have a ``label``, or several ``labels`` at once, each perhaps with a
    second text, its ``pair``; a query has a passage as its ``pair`` and the ``score`` of the two. Or a text has
    ``words``, which it is joined from, with one of the ``tags`` each; or a ``positive``, another text that means
    the same, and perhaps a ``negative`` that does not. ``tools`` are those that the assistant may call.
    """

    messages: tuple[Message, ...] | None
    text: str | None
    where: str
    rejected: Message | None = None
    unlearned: frozenset[int] = frozenset()
    label: str | None = None
    words: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    positive: str | None = None
    negative: str | None = None
    pair: str | None = None
    labels: tuple[str, ...] | None = None
    score: float | None = None
    tools: tuple[Tool, ...] = ()

    @property
    def further_texts(self) -> tuple[str, ...]:
        """The texts that a row has beside its own."""
        return tuple(one for one in (self.pair, self.positive, self.negative) if one is not None)

    def with_answer(self, answer: Message) -> Row:
        """The same conversation with another last answer."""
        return replace(self, messages=(*self.prompt_messages, answer), rejected=None)

    @property
    def prompt_messages(self) -> tuple[Message, ...]:
        """Everything before the last assistant turn; empty for a text row."""
        return self.messages[: self._answer] if self.messages else ()

    @property
    def answer(self) -> Message | None:
        """The last assistant turn; None for a text row."""
        return self.messages[self._answer] if self.messages else None

    @property
    def completion(self) -> str:
        """All that the last assistant turn says; the whole text for a text row."""
        return said(self.messages[self._answer]) if self.messages else self.text or ""

    @property
    def _answer(self) -> int:
        turns = self.messages or ()
        return max((i for i, turn in enumerate(turns) if turn["role"] == "assistant"), default=-1)
