"""From messages to the text that is encoded: through a chat template or plainly, look-alikes of control tokens
marked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepeft.data.control_tokens import ControlTokens
from edgepeft.data.look_alikes import Rendered
from edgepeft.data.plain_text import refuse_halves
from edgepeft.data.rows import ROLES, Message
from edgepeft.data.templates import ChatTemplate
from edgepeft.errors import InputError


class Renderer:
    """Renders conversations for one model; ``template`` is None where turns are joined plainly."""

    def __init__(
        self,
        template: ChatTemplate | None,
        variables: Mapping[str, str],
        control: ControlTokens,
        name: str,
    ) -> None:
        """``variables`` are the special tokens by name; ``name`` is used in errors."""
        self._template = template
        self._variables = variables
        self._control = control
        self._name = name

    def prompt(self, messages: Sequence[Message], where: str = "") -> Rendered:
        """The conversation up to where the answer begins. Raises InputError."""
        if not messages:
            raise InputError(f"{where or self._name}: no message to answer; add a user turn")
        if self._template:
            return self.conversation(messages, where, generation_prompt=True)
        self._check(messages, where)
        parts = [self._control.rendered(turn["content"], turn["role"]) for turn in messages]
        breaks, place = [], 0
        for part in parts:
            breaks += [place + inside for inside in part.breaks]
            place += len(part.text) + 1
        return Rendered("".join(f"{part.text}\n" for part in parts), tuple(sorted(set(breaks))))

    def conversation(
        self, messages: Sequence[Message], where: str = "", *, generation_prompt: bool = False
    ) -> Rendered:
        """The conversation as the template writes it. Raises InputError."""
        self._check(messages, where)
        given = [_as_templates_read(turn) for turn in messages]
        text = self._text(given, generation_prompt, where)
        marked = [self._control.marked(turn, turn["role"]) for turn in given]
        if marked == given:
            return Rendered(text)
        rendered = self._control.unmarked(self._text(marked, generation_prompt, where))
        if rendered.text == text:
            return rendered
        # It does something with the look-alikes. Where none of them is left, there is nothing to tell apart.
        plain = Rendered(text)
        other = [self._control.neutral(turn, turn["role"]) for turn in given]
        without = Rendered(self._text(other, generation_prompt, where))
        if self._control.found(plain) == self._control.found(without):
            return plain
        looks = [
            look
            for turn in messages
            for look in self._control.look_alikes(turn["content"], turn["role"])
        ]
        raise InputError(
            f"{where or self._name}: the chat template takes text that looks like a control token apart "
            f"({', '.join(looks[:3])}), so that it can't stay text; take it out, or set data.control_tokens: "
            "tokens"
        )

    def answer(self, answer: Message, closing: str) -> Rendered:
        """An answer's text as it stands, and what closes it."""
        said = self._control.rendered(answer["content"], "assistant")
        return Rendered(said.text + closing, said.breaks)

    def _text(self, messages: Sequence[Any], generation_prompt: bool, where: str) -> str:
        assert self._template is not None
        return self._template.render(
            messages, self._variables, generation_prompt=generation_prompt, where=where
        )

    def _check(self, messages: Sequence[Message], where: str) -> None:
        """Raise InputError for what is no turn of a conversation."""
        for number, turn in enumerate(messages, 1):
            if turn["role"] not in ROLES:
                raise InputError(
                    f"{where or self._name}: message {number} has the unknown role {turn['role']!r}; use "
                    f"{', '.join(ROLES)}"
                )
            for text in turn.values():
                if isinstance(text, str):
                    refuse_halves(
                        text,
                        f"{where or 'the prompt'}: message {number}" if where else "the prompt",
                    )


def _as_templates_read(turn: Message) -> dict[str, Any]:
    """A turn with its reasoning under both names that templates read, as transformers has it."""
    reasoning = turn.get("reasoning_content")
    return {**turn} if reasoning is None else {"thinking": reasoning, **turn}
