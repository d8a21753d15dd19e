"""How a model writes calls, told from its own template: probes show what stands between names and values.

So no table of families is kept: Qwen's and Hermes' tags, Llama's bare JSON, Mistral's lists, the keyed calls of
Gemma, GLM and LFM2 and the tags of Qwen3.5 are all read off in the same way.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edgepeft.data.prompt import Prompter
from edgepeft.data.rows import Message, Row, Tool, ToolCall
from edgepeft.errors import InputError

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
    prefix: bool = field(default=True)

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
    def __init__(self, prompter: Prompter) -> None:
        self._prompter = prompter

    def syntax(self) -> CallSyntax:
        # Real names of tools differ, and so do these: what both renderings share is the template's.
        opening = self._written(_SAID, ()).partition(_SAID)[0]
        texts = dict(zip(_KEYS, _TEXTS, strict=True))
        one = self._calls([texts], opening)
        arguments: JsonArguments | KeyedArguments
        found = next((style for style in _STYLES if _dumped(texts, style) in one), None)
        if found is not None:
            lead, between, end = _cut(one, _NAMES[0], _dumped(texts, found))
            arguments, joint = JsonArguments(between, *found), self._joint(opening, texts, found)
        else:
            lead, arguments, joint, end = self._keyed(opening, one)
        lead = lead.lstrip()
        literals = [lead, joint or "", end, *vars(arguments).values()]
        if any(name in str(literal) for literal in literals for name in _NAMES):
            raise _NotUnderstood
        said = self._written(_SAID, (self._call(0, texts),))
        prefix = _SAID in said and _NAMES[0] in said.partition(_SAID)[2]
        syntax = CallSyntax(opening, lead, joint, end, arguments, prefix)
        if not end and not syntax.trigger:
            raise _NotUnderstood  # like any JSON from its beginning to its end
        return syntax

    def _joint(self, opening: str, texts: dict[str, str], style: tuple[str, str]) -> str | None:
        try:
            both = self._calls([texts, texts], opening)
        except InputError:
            return None
        if _NAMES[1] not in both:
            return None  # it writes the first alone
        return _cut(both[both.index(_NAMES[0]) :], _dumped(texts, style), _NAMES[1])[1]

    def _keyed(self, opening: str, one: str) -> tuple[str, KeyedArguments, str | None, str]:
        numbers = dict(zip(_KEYS, _NUMBERS, strict=True))
        lead, between, assign, item, assign_2, end = _cut(
            one, _NAMES[0], _KEYS[0], _TEXTS[0], _KEYS[1], _TEXTS[1]
        )
        plain = _cut(
            self._calls([numbers], opening),
            *(_NAMES[0], _KEYS[0], str(_NUMBERS[0]), _KEYS[1], str(_NUMBERS[1])),
        )
        # A text's quotes are what it has and a number has not.
        opened, closed = assign.removeprefix(plain[2]), item.removesuffix(plain[3])
        if assign != assign_2 or assign != plain[2] + opened or item != closed + plain[3]:
            raise _NotUnderstood
        if not end.startswith(closed):
            raise _NotUnderstood
        item, end = item.removeprefix(closed), end.removeprefix(closed)
        joint, empty_joint = None, None
        texts = dict(zip(_KEYS, _TEXTS, strict=True))
        try:
            both = self._calls([texts, texts], opening)
            if _NAMES[1] in both:
                joint = _cut(both, _TEXTS[1], _NAMES[1])[1].removeprefix(closed)
                none = self._calls([{}, {}], opening)
                empty_joint = _cut(none, _NAMES[0], _NAMES[1])[1]
        except InputError:
            joint = None
        # What every value is followed by, whatever comes next, in whole markers.
        after = _shared([text for text in (item, joint, end) if text is not None])
        for begin, close in ("<>", "[]"):
            if after.rfind(begin) > after.rfind(close):
                after = after[: after.rfind(begin)]
        if not closed + after:
            raise _NotUnderstood
        empty = _cut(self._calls([{}], opening), _NAMES[0])[1]
        turned = self._calls([dict(reversed(texts.items()))], opening)
        arguments = KeyedArguments(
            between=between,
            assign=plain[2],
            after=after,
            item=item[len(after) :],
            quotes=(opened, closed),
            escaped=len(closed) == 1 and "\\n" in self._value(opening, plain, "qzx\nwvk"),
            words=(
                self._value(opening, plain, True),
                self._value(opening, plain, False),
                self._value(opening, plain, None),
            ),
            nested=self._nested(opening, plain),
            by_name=turned == one,
            empty=empty,
            empty_joint=empty_joint,
        )
        cut = None if joint is None else joint[len(after) :]
        return lead, arguments, cut, end[len(after) :]

    def _value(self, opening: str, plain: Sequence[str], value: Any) -> str:
        """How a value that is no text is written, between a key and another one's number."""
        given = {_KEYS[0]: value, _KEYS[1]: _NUMBERS[1]}
        pieces = _cut(self._calls([given], opening), _NAMES[0], _KEYS[0], _KEYS[1])
        return pieces[2].removeprefix(plain[2]).removesuffix(plain[3])

    def _nested(self, opening: str, plain: Sequence[str]) -> tuple[str, str] | None:
        values = ({"qzxi": 1, "qzxj": [True]}, [1, "b"])
        written = [self._value(opening, plain, value) for value in values]
        dumped = ([_dumped(value, style) for value in values] for style in _STYLES)
        return next(
            (style for style, one in zip(_STYLES, dumped, strict=False) if one == written), None
        )

    def _calls(self, given: Sequence[dict[str, Any]], opening: str) -> str:
        calls = [self._call(at, arguments) for at, arguments in enumerate(given)]
        text = self._written("", calls)
        for own in _IDS:
            text = text.replace(own, ID)
        if not text.startswith(opening.rstrip()):
            raise _NotUnderstood  # text and calls are written in channels of their own
        return text.removeprefix(opening.rstrip()).lstrip()

    def _call(self, at: int, arguments: dict[str, Any]) -> ToolCall:
        function = {"name": _NAMES[at], "arguments": arguments}
        return {"type": "function", "id": _IDS[at], "function": function}  # type: ignore[typeddict-item]

    def _written(self, content: str, calls: Sequence[ToolCall]) -> str:
        question: Message = {"role": "user", "content": "question"}
        answer: Message = {"role": "assistant", "content": content}
        if calls:
            answer["tool_calls"] = list(calls)
        tools = tuple(_tool(name) for name in _NAMES)
        return self._prompter.answer_text(Row((question, answer), None, "probe", tools=tools))


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


def _shared(texts: Sequence[str]) -> str:
    """What all texts begin with."""
    alike = itertools.takewhile(lambda each: len(set(each)) == 1, zip(*texts, strict=False))
    return "".join(each[0] for each in alike)
