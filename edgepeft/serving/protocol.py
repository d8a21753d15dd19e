"""Requests and answers of OpenAI's chat completions, as far as a bundle can honour them.

Form: https://platform.openai.com/docs/api-reference/chat. What would change an answer and is not supported is
refused rather than passed over. Unlike there, temperature is 0 by default: what was measured is greedy.
"""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from edgepeft.data.rows import Message
from edgepeft.runtime.answer import Completion


class RequestError(Exception):
    """What is wrong with a request, as OpenAI's clients read it."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    def body(self) -> dict[str, Any]:
        """The JSON of the response."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        }


class _Part(BaseModel):
    type: Literal["text"]
    text: str


class _Turn(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]

    def message(self) -> Message:
        """The turn as the prompt function takes it."""
        text = (
            self.content
            if isinstance(self.content, str)
            else "".join(part.text for part in self.content)
        )
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": text}


class _StreamOptions(BaseModel):
    include_usage: bool = False


class ChatRequest(BaseModel):
    """The body of ``POST /v1/chat/completions``."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    model: str
    messages: list[_Turn] = Field(min_length=1)
    stream: bool = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list, max_length=4)
    n: Literal[1] = 1
    logprobs: Literal[False] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    response_format: dict[Literal["type"], Literal["text"]] | None = None

    @field_validator("temperature", "top_p", "n", "stream", "stop", mode="before")
    @classmethod
    def _null_is_default(cls, value: Any, info: Any) -> Any:
        """Clients send null for what they leave open, and one stop string bare."""
        if value is None:
            return cls.model_fields[info.field_name].get_default(call_default_factory=True)
        return [value] if info.field_name == "stop" and isinstance(value, str) else value

    @field_validator("frequency_penalty", "presence_penalty", mode="before")
    @classmethod
    def _zero(cls, value: Any) -> Any:
        """0.0 is 0."""
        return 0 if value == 0 and not isinstance(value, bool) else value

    @classmethod
    def read(cls, body: bytes) -> ChatRequest:
        """Parse a body. Raises RequestError (400) that names the field."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            param = ".".join(str(part) for part in first["loc"]) or None
            message = f"{param}: {first['msg']}" if param else first["msg"]
            raise RequestError(400, message, param=param) from None

    def settings(self, most: int) -> dict[str, Any]:
        """Keywords for ``Runtime.stream``. Raises RequestError where more tokens are asked for than ``most``."""
        asked = self.max_completion_tokens or self.max_tokens
        if asked is not None and asked > most:
            raise RequestError(
                400, f"max_tokens: {asked} is more than this server's {most}", param="max_tokens"
            )
        return {
            "max_new_tokens": asked or most,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": self.stop,
        }

    def turns(self) -> list[Message]:
        """The conversation."""
        return [turn.message() for turn in self.messages]


class Reply:
    """The answer to one request, whole or in pieces."""

    def __init__(self, model: str) -> None:
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, done: Completion) -> dict[str, Any]:
        """The body of an answer that was not streamed."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": done.text},
            "finish_reason": _reason(done),
            "logprobs": None,
        }
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": _usage(done),
        }

    def piece(self, delta: dict[str, Any], finished: Completion | None = None) -> dict[str, Any]:
        """One event of a stream; the last one says why it ended."""
        choice = {
            "index": 0,
            "delta": delta,
            "finish_reason": None if finished is None else _reason(finished),
            "logprobs": None,
        }
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def usage(self, done: Completion) -> dict[str, Any]:
        """The event that closes a stream whose client asked for the usage."""
        return {
            **self._head,
            "object": "chat.completion.chunk",
            "choices": [],
            "usage": _usage(done),
        }


def model_entry(name: str, created: int, base: str) -> dict[str, Any]:
    """A model of ``GET /v1/models``."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "edgepeft",
        "root": base,
    }


def _reason(done: Completion) -> str:
    return "length" if done.finish_reason == "length" else "stop"


def _usage(done: Completion) -> dict[str, int]:
    prompt, answer = len(done.prompt_ids), len(done.ids)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
    }
