"""Answers in the forms of OpenAI's API, whole or in pieces."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from edgepeft.data.prompt import Prompter
from edgepeft.data.token_text import TokenTexts
from edgepeft.runtime.answer import Completion
from edgepeft.runtime.logprobs import TokenLogprob
from edgepeft.serving.called import Calling, as_sent

_CALLS = "tool_calls"
Follow = Callable[[str, Sequence[int]], str]


class Reply(Protocol):
    """The answers to one request."""

    def whole(self, done: Sequence[Completion], prompts: int) -> dict[str, Any]:
        """The body of answers that were not streamed, as many to each of the ``prompts``."""
        ...

    def opening(self) -> dict[str, Any] | None:
        """What a stream begins with."""
        ...

    def piece(self, text: str, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """One event of a stream, with the log-probabilities that belong to it, if any."""
        ...

    def following(self) -> Follow:
        """What tells of an answer's pieces and the ids there are what to show of them."""
        ...

    def ending(self, done: Completion, rest: Sequence[TokenLogprob]) -> Iterator[dict[str, Any]]:
        """Events of what no piece has shown: text, calls, and the ``rest`` of the log-probabilities."""
        ...

    def closing(self, done: Completion) -> dict[str, Any]:
        """The event that says why an answer ended."""
        ...

    def usage(self, done: Completion) -> dict[str, Any]:
        """The event that closes a stream whose client asked for the usage."""
        ...


class _Reply:
    """What both forms have in common. ``texts`` are given where log-probabilities are wanted."""

    kind = ""
    streamed_kind = ""
    prefix = ""

    def __init__(self, model: str, texts: TokenTexts | None) -> None:
        self._texts = texts
        self._head = {
            "id": f"{self.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def usage(self, done: Completion) -> dict[str, Any]:
        """The event that closes a stream whose client asked for the usage."""
        return {**self._event([]), "usage": _usage([done], 1)}

    def following(self) -> Follow:
        """As ``Reply.following``: everything that comes."""
        return lambda piece, _: piece

    def ending(self, done: Completion, rest: Sequence[TokenLogprob]) -> Iterator[dict[str, Any]]:
        """As ``Reply.ending``: log-probabilities of tokens that no text came of."""
        if rest:
            yield self.piece("", rest)

    def piece(self, text: str, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """As ``Reply.piece``."""
        raise NotImplementedError

    def _body(self, choices: list[Any], done: Sequence[Completion], prompts: int) -> dict[str, Any]:
        head = {**self._head, "object": self.kind}
        return {**head, "choices": choices, "usage": _usage(done, prompts)}

    def _event(self, choices: list[Any]) -> dict[str, Any]:
        return {**self._head, "object": self.streamed_kind, "choices": choices}


class ChatReply(_Reply):
    """The answer to a request of chat completions."""

    kind, streamed_kind, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def __init__(
        self, model: str, texts: TokenTexts | None, calling: Calling | None = None
    ) -> None:
        """``calling`` is given where the answer may call tools."""
        super().__init__(model, texts)
        self._calling = calling
        self._called = False

    def whole(self, done: Sequence[Completion], prompts: int) -> dict[str, Any]:
        """As ``Reply.whole``."""
        choices = []
        for index, one in enumerate(done):
            message: dict[str, Any] = {"role": "assistant", "content": one.text}
            reason = _reason(one)
            if self._calling is not None:
                parsed = self._calling.parsed(one)
                message["content"] = parsed.content
                if parsed.calls:
                    message["content"] = parsed.content or None
                    message["tool_calls"] = as_sent(parsed.calls)
                    reason = _CALLS
            choices.append(
                {
                    "index": index,
                    "message": message,
                    "finish_reason": reason,
                    "logprobs": self._logprobs(one.logprobs),
                }
            )
        return self._body(choices, done, prompts)

    def following(self) -> Follow:
        """As ``Reply.following``: the text before calls, which come whole at the end."""
        if self._calling is None:
            return super().following()
        self._before = self._calling.text()
        return lambda _, ids: self._before.next(ids)

    def ending(self, done: Completion, rest: Sequence[TokenLogprob]) -> Iterator[dict[str, Any]]:
        """As ``Reply.ending``."""
        parsed = None if self._calling is None else self._calling.parsed(done)
        text = "" if parsed is None else self._before.rest(parsed.content)
        if rest or text:
            yield self.piece(text, rest)
        if parsed is not None and parsed.calls:
            self._called = True
            calls = as_sent(parsed.calls)
            yield self._piece(
                {"tool_calls": [{"index": at, **call} for at, call in enumerate(calls)]}
            )

    def opening(self) -> dict[str, Any] | None:
        """As ``Reply.opening``."""
        return self._piece({"role": "assistant", "content": ""})

    def piece(self, text: str, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """As ``Reply.piece``."""
        return self._piece({"content": text}, self._logprobs(logprobs))

    def closing(self, done: Completion) -> dict[str, Any]:
        """As ``Reply.closing``."""
        return self._piece({}, finished=_CALLS if self._called else _reason(done))

    def _piece(
        self,
        delta: dict[str, Any],
        logprobs: dict[str, Any] | None = None,
        finished: str | None = None,
    ) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finished, "logprobs": logprobs}
        return self._event([choice])

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if self._texts is None:
            return None
        content = [
            {
                **_entry(self._texts, token.id, token.logprob),
                "top_logprobs": [_entry(self._texts, *one) for one in token.top],
            }
            for token in tokens
        ]
        return {"content": content, "refusal": None}


class CompletionReply(_Reply):
    """The answer to a request of the older completions."""

    kind, streamed_kind, prefix = "text_completion", "text_completion", "cmpl"

    def __init__(self, model: str, texts: TokenTexts | None, prompter: Prompter) -> None:
        super().__init__(model, texts)
        self._prompter = prompter
        self._offsets = _Offsets(prompter.stream())

    def whole(self, done: Sequence[Completion], prompts: int) -> dict[str, Any]:
        """As ``Reply.whole``."""
        choices = []
        for index, one in enumerate(done):
            self._offsets = _Offsets(self._prompter.stream())
            logprobs = self._logprobs(one.logprobs)
            choices.append(_choice(one.text, logprobs, _reason(one), index))
        return self._body(choices, done, prompts)

    def opening(self) -> dict[str, Any] | None:
        """As ``Reply.opening``."""
        return None

    def piece(self, text: str, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """As ``Reply.piece``."""
        return self._event([_choice(text, self._logprobs(logprobs), None)])

    def closing(self, done: Completion) -> dict[str, Any]:
        """As ``Reply.closing``."""
        return self._event([_choice("", None, _reason(done))])

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if self._texts is None:
            return None
        said = self._texts.text
        return {
            "tokens": [said(token.id) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            # The token that came is among them, whether or not it is one of the likeliest.
            "top_logprobs": [
                # The likelier of two that say the same comes last, and stays.
                {said(at): nats for at, nats in ((token.id, token.logprob), *reversed(token.top))}
                for token in tokens
            ],
            "text_offset": [self._offsets.next(token.id) for token in tokens],
        }


class _Offsets:
    """Where each token begins in its answer, in characters; ``spell`` gives the text that each completes."""

    def __init__(self, spell: Callable[[int], str]) -> None:
        self._spell = spell
        self._length = 0

    def next(self, token: int) -> int:
        """The place of the next token."""
        place = self._length
        self._length += len(self._spell(token))
        return place


def model_entry(name: str, created: int, base: str) -> dict[str, Any]:
    """A model of ``GET /v1/models``."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "edgepeft",
        "root": base,
    }


def _choice(
    text: str, logprobs: dict[str, Any] | None, reason: str | None, index: int = 0
) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}


def _entry(texts: TokenTexts, token: int, logprob: float) -> dict[str, Any]:
    found = texts.bytes_of(token)
    whole = None if found is None else list(found)
    return {"token": texts.text(token), "logprob": logprob, "bytes": whole}


def _reason(done: Completion) -> str:
    return "length" if done.finish_reason == "length" else "stop"


def _usage(done: Sequence[Completion], prompts: int) -> dict[str, int]:
    """Tokens of each prompt once, and of all that was said."""
    each = len(done) // prompts
    prompt = sum(len(one.prompt_ids) for one in done[::each])
    answers = sum(len(one.ids) for one in done)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answers,
        "total_tokens": prompt + answers,
    }
