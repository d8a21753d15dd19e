"""From messages to the text that is encoded: through a chat template or plainly, look-alikes of control tokens
marked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgepeft.data.control_tokens import ControlTokens
from edgepeft.data.look_alikes import Rendered, texts_in
from edgepeft.data.plain_text import refuse_halves
from edgepeft.data.rows import ROLES, Message, Tool, spoken
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

    @property
    def chats(self) -> bool:
        """Whether a template writes the turns."""
        return self._template is not None

    def prompt(
        self, messages: Sequence[Message], where: str = "", tools: Sequence[Tool] = ()
    ) -> Rendered:
        """The conversation up to where the answer begins, with what may be called. Raises InputError."""
        if not messages:
            raise InputError(f"{where or self._name}: no message to answer; add a user turn")
        if self._template:
            return self.conversation(messages, where, tools, generation_prompt=True)
        self._check(messages, where)
        self.refuse_tools(messages, tools, where)
        parts = [self._control.rendered(turn["content"], turn["role"]) for turn in messages]
        breaks, place = [], 0
        for part in parts:
            breaks += [place + inside for inside in part.breaks]
            place += len(part.text) + 1
        return Rendered("".join(f"{part.text}\n" for part in parts), tuple(sorted(set(breaks))))

    def conversation(
        self,
        messages: Sequence[Message],
        where: str = "",
        tools: Sequence[Tool] = (),
        *,
        generation_prompt: bool = False,
    ) -> Rendered:
        """The conversation as the template writes it, with what may be called. Raises InputError."""
        self._check(messages, where)
        given = spoken(list(map(_as_templates_read, messages)), tools)
        self._refuse_keys(given, where)

        def changed(change: Callable[[Any, str], Any]) -> tuple[list[Any], list[Any]]:
            *turns, offered = [change(value, role) for value, role in given]
            return turns, offered

        own, marked = changed(lambda value, _: value), changed(self._control.marked)
        text = self._text(*own, generation_prompt, where)
        if marked == own:
            return Rendered(text)
        rendered = self._control.unmarked(self._text(*marked, generation_prompt, where))
        if rendered.text == text:
            return rendered
        # It does something with the look-alikes. Where none of them is left, there is nothing to tell apart.
        plain = Rendered(text)
        without = Rendered(self._text(*changed(self._control.neutral), generation_prompt, where))
        if self._control.found(plain) == self._control.found(without):
            return plain
        looks = [look for value, role in given for look in self._control.look_alikes(value, role)]
        raise InputError(
            f"{where or self._name}: the chat template takes text that looks like a control token apart "
            f"({', '.join(looks[:3])}), so that it can't stay text; take it out, or set data.control_tokens: "
            "tokens"
        )

    def refuse_tools(
        self, messages: Sequence[Message], tools: Sequence[Tool], where: str = ""
    ) -> None:
        """Raise InputError for tools or calls: without a template nothing writes them."""
        if tools or any("tool_calls" in turn for turn in messages):
            raise InputError(
                f"{where or self._name}: tools need a chat template that writes them; set data.template to one"
            )

    def answer(self, answer: Message) -> Rendered:
        """An answer's text as it stands."""
        return self._control.rendered(answer["content"], "assistant")

    def _refuse_keys(self, said: Sequence[tuple[Any, str]], where: str) -> None:
        """Raise InputError for a key that looks like a control token, which no mark can tell apart."""
        if not self._control.as_text:
            return
        for value, role in said:
            for text, is_key in texts_in(value):
                if is_key and self._control.look_alikes(text, role):
                    raise InputError(
                        f"{where or self._name}: the key {text[:80]!r} looks like a control token; rename it"
                    )

    def _text(
        self, messages: Sequence[Any], tools: Sequence[Any], generation_prompt: bool, where: str
    ) -> str:
        assert self._template is not None
        return self._template.render(
            messages,
            self._variables,
            tools=tools,
            generation_prompt=generation_prompt,
            where=where,
        )

    def _check(self, messages: Sequence[Message], where: str) -> None:
        """Raise InputError for what is no turn of a conversation."""
        for number, turn in enumerate(messages, 1):
            if turn["role"] not in ROLES:
                raise InputError(
                    f"{where or self._name}: message {number} has the unknown role {turn['role']!r}; use "
                    f"{', '.join(ROLES)}"
                )
            for text, _ in texts_in(turn):
                refuse_halves(
                    text, f"{where or 'the prompt'}: message {number}" if where else "the prompt"
                )


def _as_templates_read(turn: Message) -> dict[str, Any]:
    """A turn with its reasoning under both names that templates read, as transformers has it."""
    reasoning = turn.get("reasoning_content")
    return {**turn} if reasoning is None else {"thinking": reasoning, **turn}
