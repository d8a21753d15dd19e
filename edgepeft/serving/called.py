"""Calls in answers, as OpenAI's clients read them: taken out of the text, whole or while it comes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgepeft.data.answer_text import pieces_of
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import ToolCall
from edgepeft.runtime.answer import Completion
from edgepeft.runtime.tool_use import ToolUse
from edgepeft.tool_calling.offered import Offered
from edgepeft.tool_calling.parsing import Parsed, behind_opening


@dataclass(frozen=True)
class Calling:
    """What a request offers, and who reads the calls of its answers; ``stops`` says whether texts end them."""

    use: ToolUse
    offered: Offered
    prompter: Prompter
    stops: bool = False

    def parsed(self, done: Completion) -> Parsed:
        """The text and the calls of an answer."""
        parsed = self.use.parsed(done.ids, self.offered.tools)
        # Without calls it is what was said, cut at the request's stop strings.
        return parsed if parsed.calls else Parsed(behind_opening(done.text, self.use.syntax), ())

    def text(self) -> TextBeforeCalls:
        """What follows one answer while it comes."""
        return TextBeforeCalls(self.prompter, self.use, held=self.stops)


class TextBeforeCalls:
    """The text of an answer as its tokens come, as far as it can't be the beginning of a call.

    It is ``held`` to the end where stop strings may cut it: which tokens they cut, the text alone tells.
    """

    def __init__(self, prompter: Prompter, use: ToolUse, *, held: bool) -> None:
        self._push = pieces_of(prompter.spelled)
        self._syntax = use.syntax
        self._held = held
        self._seen = 0
        self._text = ""
        self._sent = ""

    def next(self, ids: Sequence[int]) -> str:
        """What can be shown now that there are ``ids``, and was not before."""
        if self._held:
            return ""
        for token in ids[self._seen :]:
            self._text += self._push(token)
        self._seen = len(ids)
        return self._show(self._certain())

    def rest(self, content: str) -> str:
        """What is left to show of an answer whose text is ``content``."""
        return self._show(content) if content.startswith(self._sent) else ""

    def _show(self, text: str) -> str:
        fresh = text[len(self._sent) :]
        if fresh:
            self._sent = text
        return fresh

    def _certain(self) -> str:
        if self._syntax.opening.startswith(self._text):
            return ""  # it may be what every answer begins with
        text = behind_opening(self._text, self._syntax)
        trigger = self._syntax.trigger
        if not trigger:
            begins = self._syntax.lead.lstrip()[:1]
            return "" if text.lstrip().startswith(begins) else text.rstrip()
        found = text.find(trigger)
        if found < 0:
            found = next(
                at
                for at in range(max(0, len(text) - len(trigger) + 1), len(text) + 1)
                if trigger.startswith(text[at:])
            )
        # White space may be what parts the text from calls.
        return text[:found].rstrip()


def as_sent(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """Calls in the form of a response."""
    return [
        {
            # Nine letters and digits, for some templates take no other id back.
            "id": call.get("id") or uuid.uuid4().hex[:9],
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
            },
        }
        for call in calls
    ]
