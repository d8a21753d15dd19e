"""Reading the calls out of an answer, by the literals that its model's template writes around them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgepeft.data.rows import Tool, ToolCall
from edgepeft.data.tools import name_of, parameters_of
from edgepeft.tool_calling.syntax import ID, CallSyntax, JsonArguments, KeyedArguments

_DECODER = json.JSONDecoder()
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
_ID_PATTERN = "([A-Za-z0-9]{9})"


@dataclass(frozen=True)
class Parsed:
    """An answer taken apart: the text before its calls, and these."""

    content: str
    calls: tuple[ToolCall, ...]


class _NoCall(ValueError):
    """What stands there is no call, as the template writes them."""


def parse(text: str, syntax: CallSyntax, tools: Sequence[Tool] = ()) -> Parsed:
    """The calls of an answer, whose ``text`` has its markers in it.

    White space may be other than the template's. ``tools`` tell types where the text doesn't. An answer whose
    calls are not whole, or that goes on behind them, has none: all of it is content.
    """
    text = text.removeprefix(syntax.opening.rstrip()) if syntax.opening else text
    reader = _Reader(text, syntax, {name_of(tool): parameters_of(tool) for tool in tools})
    lead = reader.first()
    if lead is None:
        return Parsed(text.strip(), ())
    try:
        calls = reader.calls(lead)
    except (ValueError, RecursionError):
        return Parsed(text.strip(), ())
    return Parsed(text[: lead.start()].strip(), tuple(calls))


def begins_call(text: str, syntax: CallSyntax) -> bool:
    """Whether an answer has what its template begins a call with, whatever comes of it."""
    text = text.removeprefix(syntax.opening.rstrip()) if syntax.opening else text
    if syntax.trigger:
        return syntax.trigger in text
    return text.lstrip().startswith(syntax.lead.lstrip()[0])


def loose(literal: str) -> re.Pattern[str]:
    """A pattern for a literal whose white space may be any, or none."""
    parts = [re.escape(part) for part in re.split(r"\s+", literal.strip())]
    joined = r"\s*".join(parts).replace(re.escape(ID), _ID_PATTERN).replace(ID, _ID_PATTERN)
    return re.compile(rf"\s*{joined}\s*" if joined else r"\s*")


class _Reader:
    def __init__(
        self, text: str, syntax: CallSyntax, schemas: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self._text = text
        self._syntax = syntax
        self._schemas = schemas
        self._at = 0
        self._id: str | None = None

    def first(self) -> re.Match[str] | None:
        """Where the calls begin; only at the answer's own beginning where they begin like any JSON."""
        lead = loose(self._syntax.lead)
        return lead.search(self._text) if self._syntax.trigger else lead.match(self._text)

    def calls(self, lead: re.Match[str]) -> list[ToolCall]:
        """The calls from ``lead`` to the text's end. Raises ValueError where there is anything else."""
        self._take_id(lead)
        self._at = lead.end()
        found: list[ToolCall] = []
        more = True
        while more:
            name = _NAME.match(self._text, self._at)
            if name is None:
                raise _NoCall
            self._at = name.end()
            arguments, more = self._arguments(name[0])
            call: ToolCall = {
                "type": "function",
                "function": {"name": name[0], "arguments": arguments},
            }
            if self._id is not None:
                call["id"] = self._id
            found.append(call)
        if self._text[self._at :].strip():
            raise _NoCall
        return found

    def _arguments(self, name: str) -> tuple[dict[str, Any], bool]:
        """The arguments of a call, and whether another call follows."""
        form = self._syntax.arguments
        if isinstance(form, JsonArguments):
            self._expect(form.between)
            value, self._at = _DECODER.raw_decode(self._text, self._at)
            if not isinstance(value, dict):
                raise _NoCall
            return value, self._goes_on(self._syntax.joint, self._syntax.end)
        for literal, more in ((form.empty_joint, True), (form.empty, False)):
            if literal is not None and self._taken(literal):
                return {}, more
        return self._keyed(form, self._schemas.get(name, {}).get("properties", {}))

    def _keyed(
        self, form: KeyedArguments, properties: Mapping[str, Any]
    ) -> tuple[dict[str, Any], bool]:
        found: dict[str, Any] = {}
        self._expect(form.between)
        while True:
            key = self._until(form.assign)
            found[key] = self._value(form, properties.get(key))
            if self._taken(form.item):
                continue
            return found, self._goes_on(self._syntax.joint, self._syntax.end)

    def _value(self, form: KeyedArguments, schema: Any) -> Any:
        opened, closed = form.quotes
        if opened and self._text.startswith(opened, self._at):
            self._at += len(opened)
            if form.escaped:
                return self._unescaped(closed)
            return self._until(closed + form.after, strip=False)
        words = dict(zip(form.words, (True, False, None), strict=True))
        if form.after:
            return _typed(self._until(form.after, strip=False), schema, words)
        for word, value in words.items():
            if self._text.startswith(word, self._at):
                self._at += len(word)
                return value
        value, self._at = _DECODER.raw_decode(self._text, self._at)
        return value

    def _unescaped(self, closed: str) -> str:
        match = re.compile(rf"((?:[^\\{closed}]|\\.)*){closed}", re.DOTALL).match(
            self._text, self._at
        )
        if match is None:
            raise _NoCall
        self._at = match.end()
        return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), match[1])

    def _goes_on(self, joint: str | None, end: str) -> bool:
        if joint is not None and self._taken(joint):
            return True
        self._expect(end)
        return False

    def _expect(self, literal: str) -> None:
        if not self._taken(literal):
            raise _NoCall

    def _taken(self, literal: str) -> bool:
        match = loose(literal).match(self._text, self._at)
        if match is None:
            return False
        self._take_id(match)
        self._at = match.end()
        return True

    def _until(self, literal: str, *, strip: bool = True) -> str:
        """The text before ``literal``, which is passed over; exactly as it stands, or without space around."""
        found = self._text.find(literal, self._at)
        if found < 0:
            match = loose(literal).search(self._text, self._at)
            if match is None:
                raise _NoCall
            found, end = match.span()
        else:
            end = found + len(literal)
        text, self._at = self._text[self._at : found], end
        return text.strip() if strip else text

    def _take_id(self, match: re.Match[str]) -> None:
        if match.re.groups:
            self._id = match[1]


def _typed(text: str, schema: Any, words: Mapping[str, Any]) -> Any:
    """The value of a text without quotes: a text where the schema says so, else JSON where it is JSON."""
    kinds = schema.get("type") if isinstance(schema, dict) else None
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds == ["string"] or (isinstance(schema, dict) and _all_texts(schema.get("enum"))):
        return text
    if text.strip() in words:
        return words[text.strip()]
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, str) else value


def _all_texts(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(one, str) for one in values)
