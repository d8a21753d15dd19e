"""How a model writes calls, told from its own template: probes show what stands between names and values.

So no table of families is kept: Qwen's and Hermes' tags, Llama's bare JSON, Mistral's lists, the keyed calls of
Gemma, GLM and LFM2 and the tags of Qwen3.5 are all read off in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Function, Message, Row, Tool, ToolCall
from edgepeft.errors import InputError
from edgepeft.utils.alike import common_beginning

ID = "\0"
"""Stands in a literal for the id of a call, nine letters and digits."""

_NAMES = ("qzxfa", "wvkfb")
_KEYS = ("qzxka", "wvkkb")
_TEXTS = ("qzxta", "wvktb")
_NUMBERS = (7301, 8402)
_IDS = ("qzx1234ab", "wvk5678cd")
_SAID = "qzxsaid"
_STYLES = ((", ", ": "), (",", ":"))


@dataclass(frozen=True)
class JsonArguments:
    """Arguments as one JSON object behind ``between``, written with separators of items and keys."""

    between: str
    item: str
    key: str


@dataclass(frozen=True)
class KeyedArguments:
    """Arguments key by key: ``between`` (name and first key), key, ``assign``, value, ``after``, then ``item``
    and the next key.

    A text stands in ``quotes``, with backslashes before what it can't hold if ``escaped``; ``true``, ``false``
    and ``null`` are as ``words`` have them, and lists and objects are JSON where ``nested`` gives its
    separators, or can't be told. ``by_name`` puts keys in the order of the alphabet. Where there are none,
    ``empty`` stands in the place of all, the call's end included; ``empty_joint`` is the same before another
    call.
    """

    between: str
    assign: str
    after: str
    item: str
    quotes: tuple[str, str]
    escaped: bool
    words: tuple[str, str, str]
    nested: tuple[str, str] | None
    by_name: bool
    empty: str
    empty_joint: str | None


@dataclass(frozen=True)
class CallSyntax:
    """What stands around calls in an answer.

    ``opening`` is what every answer begins with, ``lead`` stands before the first call's name, ``joint`` between
    one call's arguments and the next one's name (None: there is never more than one call), ``end`` behind the
    last. ``prefix`` says whether text may stand before the calls.
    """

    opening: str
    lead: str
    joint: str | None
    end: str
    arguments: JsonArguments | KeyedArguments
    prefix: bool

    @property
    def trigger(self) -> str:
        """What a call begins with and nothing else does; empty where it begins like any JSON."""
        begun = self.lead.lstrip()
        stop = next((at for at, char in enumerate(begun) if char.isspace() or char in '{("'), None)
        head = begun[:stop]
        return "" if head in ("", "[") else head


def syntax_of(prompter: Prompter) -> CallSyntax | None:
    """How ``prompter``'s template writes calls; None where it writes none, or in no way that is understood."""
    if prompter.mode != "chat":
        return None
    try:
        return _Probes(prompter).syntax()
    except (InputError, _NotUnderstood):
        return None


class _NotUnderstood(Exception):
    """A template writes probes in another way than any that is known."""


class _Probes:
    """A template's renderings of calls whose names and values nobody uses: what is around them is its own."""

    def __init__(self, prompter: Prompter) -> None:
        self._prompter = prompter
        self._opening = self._written(_SAID, ()).partition(_SAID)[0]
        self._texts = dict(zip(_KEYS, _TEXTS, strict=True))

    def syntax(self) -> CallSyntax:
        one = self._calls(self._texts)
        arguments: JsonArguments | KeyedArguments
        style = next((style for style in _STYLES if _dumped(self._texts, style) in one), None)
        if style is not None:
            value = _dumped(self._texts, style)
            lead, between, end = _cut(one, _NAMES[0], value)
            arguments, joint = JsonArguments(between, *style), self._joint(self._texts, value)
        else:
            lead, arguments, joint, end = self._keyed(one)
        lead = lead.lstrip()
        literals = [lead, joint or "", end, *vars(arguments).values()]
        if any(name in str(literal) for literal in literals for name in _NAMES):
            raise _NotUnderstood
        said = self._written(_SAID, (_call(0, self._texts),))
        prefix = _SAID in said and _NAMES[0] in said.partition(_SAID)[2]
        syntax = CallSyntax(self._opening, lead, joint, end, arguments, prefix)
        if not end and not syntax.trigger:
            raise _NotUnderstood  # like any JSON from its beginning to its end
        return syntax

    def _joint(self, arguments: dict[str, str], last: str) -> str | None:
        """What stands between the ``last`` of one call with ``arguments`` and the name of another; None where a
        template writes one call alone.
        """
        try:
            both = self._calls(arguments, arguments)
        except InputError:
            return None
        if _NAMES[1] not in both:
            return None
        return _cut(both[both.index(_NAMES[0]) :], last, _NAMES[1])[1]

    def _keyed(self, one: str) -> tuple[str, KeyedArguments, str | None, str]:
        lead, between, assign, item, assign_2, end = _cut(
            one, _NAMES[0], _KEYS[0], _TEXTS[0], _KEYS[1], _TEXTS[1]
        )
        numbers = self._calls(dict(zip(_KEYS, _NUMBERS, strict=True)))
        marks = (_NAMES[0], _KEYS[0], str(_NUMBERS[0]), _KEYS[1], str(_NUMBERS[1]))
        _, _, plain_assign, plain_item, *_ = _cut(numbers, *marks)
        # A text's quotes are what it has and a number has not.
        opened, closed = assign.removeprefix(plain_assign), item.removesuffix(plain_item)
        if assign != assign_2 or assign != plain_assign + opened or item != closed + plain_item:
            raise _NotUnderstood
        if not end.startswith(closed):
            raise _NotUnderstood
        item, end = plain_item, end.removeprefix(closed)
        joint, empty_joint = self._joint(self._texts, _TEXTS[1]), None
        if joint is not None:
            joint, empty_joint = joint.removeprefix(closed), self._joint({}, _NAMES[0])
        # What every value is followed by, whatever comes next, in whole markers.
        after = common_beginning([text for text in (item, joint, end) if text is not None])
        for begin, close in ("<>", "[]"):
            if after.rfind(begin) > after.rfind(close):
                after = after[: after.rfind(begin)]
        if not closed + after:
            raise _NotUnderstood

        def written(value: Any) -> str:
            """How a value is written between a key and another one's number."""
            text = self._calls({_KEYS[0]: value, _KEYS[1]: _NUMBERS[1]})
            between = _cut(text, _NAMES[0], _KEYS[0], _KEYS[1])[2]
            return between.removeprefix(plain_assign).removesuffix(plain_item)

        arguments = KeyedArguments(
            between=between,
            assign=plain_assign,
            after=after,
            item=item[len(after) :],
            quotes=(opened, closed),
            escaped=len(closed) == 1 and "\\n" in written("qzx\nwvk"),
            words=(written(True), written(False), written(None)),
            nested=_nested(written),
            by_name=self._calls(dict(reversed(self._texts.items()))) == one,
            empty=_cut(self._calls({}), _NAMES[0])[1],
            empty_joint=empty_joint,
        )
        cut = None if joint is None else joint[len(after) :]
        return lead, arguments, cut, end[len(after) :]

    def _calls(self, *given: dict[str, Any]) -> str:
        text = self._written("", [_call(at, arguments) for at, arguments in enumerate(given)])
        for own in _IDS:
            text = text.replace(own, ID)
        opening = self._opening.rstrip()
        if not text.startswith(opening):
            raise _NotUnderstood  # text and calls are written in channels of their own
        return text.removeprefix(opening).lstrip()

    def _written(self, content: str, calls: Sequence[ToolCall]) -> str:
        question: Message = {"role": "user", "content": "question"}
        answer: Message = {"role": "assistant", "content": content}
        if calls:
            answer["tool_calls"] = list(calls)
        tools = tuple(_tool(name) for name in _NAMES)
        return self._prompter.answer_text(Row((question, answer), None, "probe", tools=tools))


def _call(at: int, arguments: dict[str, Any]) -> ToolCall:
    function: Function = {"name": _NAMES[at], "arguments": arguments}
    return {"type": "function", "id": _IDS[at], "function": function}


def _nested(written: Callable[[Any], str]) -> tuple[str, str] | None:
    """The separators of lists and objects that are ``written`` as JSON."""
    values: list[Any] = [{"qzxi": 1, "qzxj": [True]}, [1, "b"]]
    return next(
        (style for style in _STYLES if all(written(one) == _dumped(one, style) for one in values)),
        None,
    )


def _tool(name: str) -> Tool:
    properties = {key: {"type": "string", "description": "said"} for key in _KEYS}
    parameters = {"type": "object", "properties": properties, "required": []}
    return {
        "type": "function",
        "function": {"name": name, "description": "does", "parameters": parameters},
    }


def _dumped(value: Any, style: tuple[str, str]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=style)


def _cut(text: str, *marks: str) -> list[str]:
    """What stands before, between and behind ``marks``, which come in this order."""
    pieces = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            raise _NotUnderstood
        pieces.append(before)
    return [*pieces, text]
