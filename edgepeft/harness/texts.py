"""The texts of a task as token ids, by the bundle's own prompt path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from edgepeft.data.look_alikes import Rendered
from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Message
from edgepeft.errors import InputError
from edgepeft.utils.alike import common_beginning

Turns = Sequence[dict[str, str]]
"""A conversation as lm_eval has it: ``role`` and ``content`` of each turn."""


class Texts:
    """Makes prompts and their ids.

    lm_eval hands prompts around as strings, and what the template wrote must still be told from what stood in a
    row: so each prompt that was made is kept. One that comes from lm_eval's cache of requests is known by its
    beginning, and all its control tokens are the template's.

    ``without_system`` counts prompts whose system turn the template does not take.
    """

    def __init__(self, prompter: Prompter) -> None:
        self._prompter = prompter
        self._made: dict[str, Rendered] = {}
        self._opening = _opening(prompter)
        self.without_system = 0

    def conversation(self, turns: Turns, *, begun: bool = False) -> str:
        """The prompt of a conversation; with ``begun`` its last turn is the beginning of the answer.

        A system turn that the template refuses is left out, as lm_eval's hf model does. Raises InputError for a
        conversation that it refuses all the same.
        """
        try:
            rendered = self._render(turns, begun)
        except InputError:
            others = [turn for turn in turns if turn["role"] != "system"]
            if len(others) == len(turns):
                raise
            rendered = self._render(others, begun)
            self.without_system += 1
        return self._made.setdefault(rendered.text, rendered).text

    def prompt(self, text: str) -> list[int]:
        """Ids of a prompt, or of a text that no template has seen."""
        made = self._known(text)
        return self._prompter.text(text) if made is None else self._prompter.encoded(made)

    def pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of a context and of what follows it, tokenized as one text and parted where the context ends.

        White space at the end of the context goes to the continuation, as lm_eval has it for all models.
        """
        bare = context.rstrip()
        made = self._known(context)
        if made is None:
            whole, first = self._prompter.text(context + continuation), self._prompter.text(bare)
        else:
            said = self._said(continuation)
            whole = self._prompter.encoded(_joined(made, said))
            inside = tuple(place for place in made.breaks if place <= len(bare))
            first = self._prompter.encoded(Rendered(bare, inside))
        return first, whole[len(first) :]

    def continuation(self, text: str) -> list[int]:
        """Ids of a text that stands alone, without those that a tokenizer puts around one."""
        return self._prompter.control.encode(self._said(text)).ids

    def _said(self, text: str) -> Rendered:
        return self._prompter.control.rendered(text, "assistant")

    def _render(self, turns: Turns, begun: bool) -> Rendered:
        messages = cast("Sequence[Message]", turns)
        if not begun:
            return self._prompter.renderer.prompt(messages)
        asked = self._prompter.renderer.prompt(messages[:-1])
        return _joined(asked, self._said(messages[-1]["content"]))

    def _known(self, text: str) -> Rendered | None:
        """The prompt that a text is; None for a text that no template made."""
        made = self._made.get(text)
        if made is None and self._opening and text.startswith(self._opening):
            return Rendered(text)
        return made


def _joined(first: Rendered, second: Rendered) -> Rendered:
    """One text after the other."""
    breaks = {*first.breaks, *(len(first.text) + place for place in second.breaks)}
    return Rendered(first.text + second.text, tuple(sorted(breaks)))


def _opening(prompter: Prompter) -> str:
    """What every prompt of a template begins with, where a control token is part of it; else nothing."""
    question: Message = {"role": "user", "content": "question"}
    system: Message = {"role": "system", "content": "rules"}
    texts = []
    for messages in ([question], [system, question]):
        try:
            texts.append(prompter.renderer.prompt(messages).text)
        except InputError:
            continue  # a template may take no system turn
    opening = common_beginning(texts)
    return opening if prompter.control.found(Rendered(opening)) else ""
