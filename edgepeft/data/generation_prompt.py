"""What a template asks an answer with, told from how it writes one where it ignores ``add_generation_prompt``.

A model that was trained on turns with a header would write the header itself, as a part of its answer. So a
template that ignores the flag gets, at its end, what it puts between a question and its answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal, NamedTuple

from edgepeft.data.rows import Message
from edgepeft.data.templates import ChatTemplate
from edgepeft.errors import InputError

_ANSWER = "edgepeft-probe"


class Asking(NamedTuple):
    """A template that asks, and how it came to: its ``opening`` where that was added.

    ``how`` is "own" (it heeds the flag, or needs no header), "added", or "unknown" where turns begin in ways that
    can't be told.
    """

    template: ChatTemplate
    how: Literal["own", "added", "unknown"]
    opening: str = ""


def asking(template: ChatTemplate, variables: Mapping[str, str]) -> Asking:
    """``template``, with a generation prompt if it has none and needs one; ``variables`` are special tokens."""
    openings: set[str | None] = set()
    for messages in _conversations():
        try:
            open_ended = template.render(messages, variables, generation_prompt=True)
            ended = template.render(messages, variables, generation_prompt=False)
            answered = template.render(
                [*messages, {"role": "assistant", "content": _ANSWER}],
                variables,
                generation_prompt=False,
            )
        except InputError:
            continue  # it may want other messages than these
        if open_ended != ended:
            return Asking(template, "own")
        begun, found, _ = answered.removeprefix(ended).partition(_ANSWER)
        openings.add(begun if found and answered.startswith(ended) else None)
    # White space alone is the beginning of the answer.
    if all(opening is not None and not opening.strip() for opening in openings):
        return Asking(template, "own")
    opening = openings.pop()
    if openings or opening is None:
        return Asking(template, "unknown")
    source = (
        f"{_without_last_newline(template.source)}{{{{ {json.dumps(opening, ensure_ascii=False)} "
    )
    source += 'if add_generation_prompt else "" }}'
    return Asking(ChatTemplate(source, template.name), "added", opening)


def _conversations() -> list[list[Message]]:
    system: Message = {"role": "system", "content": "rules"}
    question: Message = {"role": "user", "content": "question"}
    answer: Message = {"role": "assistant", "content": "answer"}
    return [[question], [system, question], [question, answer, question]]


def _without_last_newline(source: str) -> str:
    """jinja drops one at the very end, which would no longer be there."""
    for newline in ("\r\n", "\n", "\r"):
        if source.endswith(newline):
            return source.removesuffix(newline)
    return source
