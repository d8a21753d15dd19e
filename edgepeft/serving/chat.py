"""Requests of OpenAI's chat completions, as far as a bundle can honour them.

Form: https://platform.openai.com/docs/api-reference/chat. Which fields there are, and what becomes of each, is
told in ``fields``.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pydantic import Field

from edgepeft.data.rows import Message
from edgepeft.serving.fields import (
    HARMLESS,
    MESSAGE_NEUTRAL,
    NEUTRAL,
    PART_NEUTRAL,
    PARTS,
    objection,
)
from edgepeft.serving.refusals import RequestError, refuse
from edgepeft.serving.sampled import Sampled
from edgepeft.serving.tools import answering_turn, calling_turn, requested_tools
from edgepeft.tool_calling.offered import Offered

_ROLES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("system", "developer", "user"), ()),
    "assistant": ("tool_calls",),
    "tool": ("tool_call_id", "name"),
}
"""Roles, and the fields of a message that each honours."""


class ChatRequest(Sampled):
    """The fields of ``POST /v1/chat/completions`` that are honoured; ``read`` makes one."""

    neutral = NEUTRAL
    harmless = HARMLESS

    # What pydantic sees has been through ``_turn``.
    messages: list[dict[str, Any]] = Field(min_length=1)
    # ``tools`` reads them.
    tools: list[Any] = Field(default_factory=list)
    tool_choice: Any = None
    parallel_tool_calls: bool = True
    max_completion_tokens: int | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    # ``answer_format`` reads it.
    response_format: dict[str, Any] | None = None

    @classmethod
    def prepared(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """As ``Fields.prepared``."""
        if isinstance(turns := fields.get("messages"), list):
            fields["messages"] = [_turn(turn, f"messages.{at}") for at, turn in enumerate(turns)]
        return super().prepared(fields)

    def check(self) -> None:
        """As ``Fields.check``."""
        super().check()
        if self.top_logprobs and not self.logprobs:
            raise RequestError(
                400, "top_logprobs: goes with logprobs: true alone", param="top_logprobs"
            )
        bounds = (self.response_format or {}).get("type", "text")
        if self.offered.tools and bounds != "text":
            raise RequestError(
                400,
                "response_format: an answer that may call tools is bounded by these; leave one of them out",
                param="response_format",
            )

    @cached_property
    def offered(self) -> Offered:
        """What the answer may call. Raises RequestError (400)."""
        return requested_tools(self.tools, self.tool_choice, self.parallel_tool_calls)

    def wanted_tokens(self) -> tuple[str, int | None]:
        """As ``Sampled.wanted_tokens``."""
        if self.max_completion_tokens is not None:
            return "max_completion_tokens", self.max_completion_tokens
        return super().wanted_tokens()

    def wanted_logprobs(self) -> tuple[str, int | None]:
        """As ``Sampled.wanted_logprobs``."""
        return "top_logprobs", self.top_logprobs if self.logprobs or self.top_logprobs else None

    def turns(self) -> list[Message]:
        """The conversation."""
        return [Message(**turn) for turn in self.messages]  # type: ignore[typeddict-item]


def _turn(sent: Any, where: str) -> Message:
    """One message as the prompt function takes it. Raises RequestError (400)."""
    if not isinstance(sent, dict):
        raise RequestError(400, f"{where}: must be an object of role and content", param=where)
    role = sent.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise RequestError(400, f"{where}.role: must be {', '.join(_ROLES)}", param=f"{where}.role")
    refuse(objection(sent, ("role", "content", *_ROLES[role]), MESSAGE_NEUTRAL), where)
    calls = role == "assistant" and sent.get("tool_calls") not in (None, [])
    given = sent.get("content")
    text = "" if calls and given is None else _content(given, f"{where}.content")
    turn: Message = {"role": "system" if role == "developer" else role, "content": text}
    if calls:
        return calling_turn(sent, turn, where)
    return answering_turn(sent, turn, where) if role == "tool" else turn


def _content(sent: Any, where: str) -> str:
    if isinstance(sent, str):
        return sent
    if not isinstance(sent, list):
        raise RequestError(400, f"{where}: must be a string or a list of text parts", param=where)
    return "".join(_part(part, f"{where}.{at}") for at, part in enumerate(sent))


def _part(sent: Any, where: str) -> str:
    kind = sent.get("type") if isinstance(sent, dict) else None
    if kind not in PARTS:
        shown = (
            f"a part of type {kind[:40]!r}" if isinstance(kind, str) else "a part without a type"
        )
        raise RequestError(
            400, f"{where}: {shown} is not read by this server; only text is", param=f"{where}.type"
        )
    refuse(objection(sent, ("type", "text"), PART_NEUTRAL), where)
    if not isinstance(sent.get("text"), str):
        raise RequestError(400, f"{where}.text: must be a string", param=f"{where}.text")
    text: str = sent["text"]
    return text
