"""One row of data, whatever file it came from: a conversation, or a text and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypedDict

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")


class Message(TypedDict):
    """One turn of a conversation, as chat templates expect it; ``role`` is one of ``ROLES``."""

    role: str
    content: str


@dataclass(frozen=True)
class Row:
    """One example. Exactly one of ``messages`` (ends with an assistant turn) and ``text`` is set.

    ``where`` is how the user finds it again, e.g. ``"train.jsonl line 12"``. ``rejected`` is the answer that a
    preference row holds against its own. A text may have a ``label``; or ``words``, which it is joined from, with
    one of the ``tags`` each; or a ``positive``, another text that means the same.
    """

    messages: tuple[Message, ...] | None
    text: str | None
    where: str
    rejected: str | None = None
    label: str | None = None
    words: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    positive: str | None = None

    def with_answer(self, answer: str) -> Row:
        """The same conversation with another last answer."""
        turn: Message = {"role": "assistant", "content": answer}
        return replace(self, messages=(*self.prompt_messages, turn), rejected=None)

    @property
    def prompt_messages(self) -> tuple[Message, ...]:
        """Everything before the last assistant turn; empty for a text row."""
        return self.messages[: self._answer] if self.messages else ()

    @property
    def completion(self) -> str:
        """Content of the last assistant turn; the whole text for a text row."""
        return self.messages[self._answer]["content"] if self.messages else self.text or ""

    @property
    def _answer(self) -> int:
        turns = self.messages or ()
        return max((i for i, turn in enumerate(turns) if turn["role"] == "assistant"), default=-1)
