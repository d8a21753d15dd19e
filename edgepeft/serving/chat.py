"""Requests of OpenAI's chat completions, as far as a bundle can honour them.

Form: https://platform.openai.com/docs/api-reference/chat. Which fields there are, and what becomes of each, is
told in ``fields``.
"""

from __future__ import annotations

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


class ChatRequest(Sampled):
    """The fields of ``POST /v1/chat/completions`` that are honoured; ``read`` makes one."""

    neutral = NEUTRAL
    harmless = HARMLESS

    # What pydantic sees has been through ``_turn``.
    messages: list[dict[str, str]] = Field(min_length=1)
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
        return [{"role": turn["role"], "content": turn["content"]} for turn in self.messages]


def _turn(sent: Any, where: str) -> Message:
    """One message as the prompt function takes it. Raises RequestError (400)."""
    if not isinstance(sent, dict):
        raise RequestError(400, f"{where}: must be an object of role and content", param=where)
    refuse(objection(sent, ("role", "content"), MESSAGE_NEUTRAL), where)
    role = sent.get("role")
    if role not in ("system", "developer", "user", "assistant"):
        raise RequestError(
            400,
            f"{where}.role: must be system, developer, user or assistant",
            param=f"{where}.role",
        )
    text = _content(sent.get("content"), f"{where}.content")
    return {"role": "system" if role == "developer" else role, "content": text}


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
