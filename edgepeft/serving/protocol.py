"""Requests and answers of OpenAI's chat completions, as far as a bundle can honour them.

Form: https://platform.openai.com/docs/api-reference/chat. Which fields there are, and what becomes of each, is
told in ``fields``. Unlike there, temperature is 0 by default: what was measured is greedy.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgepeft.data.rows import Message
from edgepeft.errors import one_line
from edgepeft.runtime.answer import Completion
from edgepeft.runtime.sampling_params import OutOfRange, SamplingParams
from edgepeft.serving.fields import (
    HARMLESS,
    MESSAGE_NEUTRAL,
    NEUTRAL,
    PART_NEUTRAL,
    PARTS,
    STREAM_NEUTRAL,
    objection,
)
from edgepeft.utils import strict_json


class RequestError(Exception):
    """What is wrong with a request, as OpenAI's clients read it."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    def body(self) -> dict[str, Any]:
        """The JSON of the response; what came from the client in it can't drive a terminal."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": _visible(str(self)),
                "type": kind,
                "param": None if self.param is None else _visible(self.param),
                "code": self.code,
            }
        }


def _visible(text: str) -> str:
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _StreamOptions(_Strict):
    include_usage: bool = False


class ChatRequest(_Strict):
    """The fields of ``POST /v1/chat/completions`` that are honoured; ``read`` makes one."""

    model: str
    # What pydantic sees has been through ``_turn``.
    messages: list[dict[str, str]] = Field(min_length=1)
    stream: bool = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    # What the field's ranges are beside OpenAI's own bounds, ``sampling`` says.
    temperature: float = Field(SamplingParams.temperature, le=2)
    top_p: float = SamplingParams.top_p
    seed: int | None = SamplingParams.seed
    stop: list[str] = Field(default_factory=list, max_length=4)
    # ``answer_format`` reads it.
    response_format: dict[str, Any] | None = None

    @classmethod
    def read(cls, body: bytes) -> ChatRequest:
        """Parse a body. Raises RequestError (400) that names the field."""
        sent = _json_object(body)
        refuse(objection(sent, tuple(cls.model_fields), NEUTRAL, HARMLESS))
        fields = {
            name: value
            for name, value in sent.items()
            # Clients send null for what they leave open.
            if name in cls.model_fields and value is not None
        }
        if isinstance(fields.get("stop"), str):
            fields["stop"] = [fields["stop"]]
        if isinstance(options := fields.get("stream_options"), dict):
            fields["stream_options"] = _options(options)
        if isinstance(turns := fields.get("messages"), list):
            fields["messages"] = [_turn(turn, f"messages.{at}") for at, turn in enumerate(turns)]
        try:
            asked = cls.model_validate(fields)
        except ValidationError as error:
            first = error.errors()[0]
            param = ".".join(str(part) for part in first["loc"])
            raise RequestError(400, f"{param}: {first['msg']}", param=param) from None
        asked.sampling()
        return asked

    def sampling(self, most: int | None = None) -> SamplingParams:
        """What the request says of choosing tokens, ``most`` of them where it doesn't say how many.

        Raises RequestError for a field that is out of range and for more tokens than ``most``.
        """
        word, asked = "max_tokens", self.max_tokens
        if self.max_completion_tokens is not None:
            word, asked = "max_completion_tokens", self.max_completion_tokens
        if asked is not None and most is not None and asked > most:
            raise RequestError(
                400, f"max_tokens: {asked} is more than this server's {most}", param="max_tokens"
            )
        if asked is None:
            asked = SamplingParams.max_new_tokens if most is None else most
        try:
            return SamplingParams(
                max_new_tokens=asked,
                temperature=self.temperature,
                top_p=self.top_p,
                seed=self.seed,
                stop=self.stop,
            )
        except OutOfRange as error:
            param = word if error.name == "max_new_tokens" else error.name
            raise RequestError(400, f"{param}: {error.said}", param=param) from None

    def turns(self) -> list[Message]:
        """The conversation."""
        return [{"role": turn["role"], "content": turn["content"]} for turn in self.messages]


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        sent = strict_json.loads(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise RequestError(400, "the body is not UTF-8 text") from None
    except ValueError as error:
        raise RequestError(400, f"the body is not JSON: {one_line(error)}") from None
    if not isinstance(sent, dict):
        raise RequestError(400, "the body must be a JSON object")
    return sent


def _options(sent: dict[str, Any]) -> dict[str, Any]:
    honoured = tuple(_StreamOptions.model_fields)
    refuse(objection(sent, honoured, STREAM_NEUTRAL), "stream_options")
    return {name: sent[name] for name in honoured if sent.get(name) is not None}


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


def refuse(found: tuple[str, str] | None, where: str = "") -> None:
    """Raise RequestError (400) where there is an objection."""
    if found is not None:
        name, said = found
        # A name is a stranger's text of any length.
        param = f"{where}.{name[:80]}" if where else name[:80]
        raise RequestError(400, f"{param}: {said}", code="unsupported_parameter", param=param)


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
