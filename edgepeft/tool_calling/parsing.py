"""Reading the calls out of an answer, by the literals that its model's template writes around them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgepeft.data.rows import Tool, ToolCall
from edgepeft.data.tools import NAME, name_of, parameters_of
from edgepeft.tool_calling.syntax import ID, CallSyntax, JsonArguments, KeyedArguments
from edgepeft.utils import strict_json

_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
_TYPES: dict[str, Any] = {
    "string": str, "integer": int, "number": int | float, "boolean": bool, "null": type(None),
    "array": list, "object": dict,
}  # fmt: skip
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

    White space may be other than the template's. ``tools`` tell types where the text doesn't; where any are
    given, others are not called. An answer whose calls are not whole, or that goes on behind them, has none: all
    of it is content.
    """
    text = behind_opening(text, syntax)
    reader = _Reader(text, syntax, {name_of(tool): parameters_of(tool) for tool in tools})
    lead = reader.first()
    if lead is None:
        return Parsed(text.strip(), ())
    try:
        calls = reader.calls(lead)
    except (ValueError, RecursionError):
        return Parsed(text.strip(), ())
    return Parsed(text[: lead.start()].rstrip(), tuple(calls))


def behind_opening(text: str, syntax: CallSyntax) -> str:
    """An answer without what every answer begins with."""
    begun = syntax.opening.rstrip()
    return text.removeprefix(begun).lstrip() if begun and text.startswith(begun) else text


def begins_call(text: str, syntax: CallSyntax) -> bool:
    """Whether an answer has what its template begins a call with, whatever comes of it."""
    text = behind_opening(text, syntax)
    if syntax.trigger:
        return syntax.trigger in text
    return text.lstrip().startswith(syntax.lead.lstrip()[0])


def _loose(literal: str) -> re.Pattern[str]:
    """A pattern for a literal whose white space may be any, or none."""
    joined = _loosely(literal)
    return re.compile(rf"\s*{joined}\s*" if joined else r"\s*")


def _anywhere(literal: str) -> re.Pattern[str]:
    """The same to be searched for: without white space before it, of which a lost model writes any amount."""
    return re.compile(rf"{_loosely(literal)}\s*")


def _loosely(literal: str) -> str:
    parts = [re.escape(part) for part in re.split(r"\s+", literal.strip())]
    return r"\s*".join(parts).replace(ID, _ID_PATTERN)


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
        if self._syntax.trigger:
            return _anywhere(self._syntax.lead).search(self._text)
        return _loose(self._syntax.lead).match(self._text)

    def calls(self, lead: re.Match[str]) -> list[ToolCall]:
        """The calls from ``lead`` to the text's end. Raises ValueError where there is anything else."""
        self._take_id(lead)
        self._at = lead.end()
        found: list[ToolCall] = []
        more = True
        while more:
            name = NAME.match(self._text, self._at)
            if name is None or (self._schemas and name[0] not in self._schemas):
                raise _NoCall
            self._at = name.end()
            # What stands before a name is that call's id, what stands behind its arguments too.
            own, self._id = self._id, None
            arguments, more = self._arguments(name[0])
            if ID not in self._syntax.lead:
                own, self._id = self._id, None
            call: ToolCall = {
                "type": "function",
                "function": {"name": name[0], "arguments": arguments},
            }
            if own is not None:
                call["id"] = own
            found.append(call)
        if self._text[self._at :].strip():
            raise _NoCall
        return found

    def _arguments(self, name: str) -> tuple[dict[str, Any], bool]:
        """The arguments of a call, and whether another call follows."""
        form = self._syntax.arguments
        if isinstance(form, JsonArguments):
            self._expect(form.between)
            value, self._at = strict_json.DECODER.raw_decode(self._text, self._at)
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
            if key in found:
                raise _NoCall
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
            text = self._until(form.after, strip=False)
            if form.item.strip() and form.item.strip() in text:
                raise _NoCall  # it reaches into the next argument
            return _typed(text, schema, words)
        for word, value in words.items():
            if self._text.startswith(word, self._at):
                self._at += len(word)
                return value
        value, self._at = strict_json.DECODER.raw_decode(self._text, self._at)
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
        match = _loose(literal).match(self._text, self._at)
        if match is None:
            return False
        self._take_id(match)
        self._at = match.end()
        return True

    def _until(self, literal: str, *, strip: bool = True) -> str:
        """The text before ``literal``, which is passed over; exactly as it stands, or without space around."""
        found = self._text.find(literal, self._at)
        if found < 0:
            match = _anywhere(literal).search(self._text, self._at)
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
    """The value of a text without quotes: a text where the schema lets nothing else be, else JSON where it is."""
    kinds = _kinds(schema)
    if not kinds - {"string"}:
        return text
    if text.strip() in words:
        value = words[text.strip()]
    else:
        try:
            value = strict_json.loads(text)
        except ValueError:
            return text
    return (
        text
        if isinstance(value, str) or ("string" in kinds and not _is_of(value, kinds))
        else value
    )


def _kinds(schema: Any) -> set[str]:
    """The types that a schema lets a value be of; any where nothing is known of it."""
    if not isinstance(schema, dict):
        return set(_TYPES)
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list):
            return set().union(*map(_kinds, schema[word]))
    if "enum" in schema or "const" in schema:
        values = schema["enum"] if isinstance(schema.get("enum"), list) else [schema.get("const")]
        return {kind for kind in _TYPES for value in values if _is_of(value, {kind})}
    kinds = schema.get("type", "string")
    return set(kinds) if isinstance(kinds, list) else {str(kinds)}


def _is_of(value: Any, kinds: set[str]) -> bool:
    """Whether a value is of one of some types."""
    if isinstance(value, bool):
        return "boolean" in kinds
    return any(isinstance(value, _TYPES[kind]) for kind in kinds if kind in _TYPES)
