"""Rules of calls whose arguments are written key by key, each value in the template's own way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from edgepeft.data.rows import Tool
from edgepeft.data.tools import name_of, parameters_of
from edgepeft.errors import InputError
from edgepeft.tool_calling.lark import Lark
from edgepeft.tool_calling.offered import place_of
from edgepeft.tool_calling.syntax import CallSyntax, KeyedArguments

_HELD = {
    "string": {"minLength", "maxLength"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}
_SAID = {"type", "title", "description", "default", "examples", "enum", "const", "anyOf"}
_OF_OBJECTS = {*_SAID, "properties", "required", "additionalProperties", "$schema"}
_MOST_LENGTH = 4000
_PLAIN = (", ", ": ")
"""Separators where there is nothing to part: of numbers."""


class KeyedRules:
    """Writes the rules of calls in one template's keyed form."""

    def __init__(self, lark: Lark, syntax: CallSyntax, form: KeyedArguments, several: bool) -> None:
        self._lark = lark
        self._syntax = syntax
        self._form = form
        self._several = several

    def calls(self, tools: Sequence[Tool]) -> str:
        """The name of the rule of one call or several. Raises InputError for what can't be bounded."""
        whole = self._lark.rule("calls")
        each = [self._call(tool, f"t{number}") for number, tool in enumerate(tools)]
        whole(" | ".join(each))
        return "calls"

    def _call(self, tool: Tool, rule: str) -> str:
        """A call of one tool, and whatever comes behind it."""
        where, schema, form = place_of(tool), parameters_of(tool), self._form
        self._refuse_others(schema, _OF_OBJECTS, where)
        if schema.get("additionalProperties"):
            raise InputError(f"{where}: additionalProperties can't be held in this model's calls")
        properties, needed = schema["properties"], set(schema.get("required") or ())
        # As jinja's dictsort has it.
        names = sorted(properties, key=str.lower) if form.by_name else list(properties)
        ways = []
        if names:
            for at, key in enumerate(names):
                value = self._value(properties[key], f"{where}: {key}")
                self._argument(rule, at, key, value, key in needed, at + 1 == len(names), where)
            ending = self._ending(self._syntax.end, self._syntax.joint)
            ways.append(f"{self._lark.literal(form.between)} {rule}f0 ({ending})")
        if not needed:
            ways.append(f"({self._ending(form.empty, form.empty_joint)})")
        self._lark.rule(rule)(f"{json.dumps(name_of(tool))} ({' | '.join(ways)})")
        return rule

    def _argument(
        self, rule: str, at: int, key: str, value: str, needed: bool, last: bool, where: str
    ) -> None:
        """Three rules of the argument at a place: itself (``a``), those from here on where none has come yet
        (``f``), and where one has (``r``).
        """
        self._refuse_key(key, where)
        lit, form = self._lark.literal, self._form
        behind = '""' if last else f"{rule}r{at + 1}"
        self._lark.rule(f"{rule}a{at}")(
            f"{json.dumps(key, ensure_ascii=False)} {lit(form.assign)} {value}"
        )
        left_out = "" if needed else f" | {behind}"
        self._lark.rule(f"{rule}r{at}")(f"{lit(form.item)} {rule}a{at} {behind}{left_out}")
        later = "" if needed or last else f" | {rule}f{at + 1}"
        self._lark.rule(f"{rule}f{at}")(f"{rule}a{at} {behind}{later}")

    def _ending(self, end: str, joint: str | None) -> str:
        more = (
            f" | {self._lark.literal(joint)} calls" if self._several and joint is not None else ""
        )
        return f"{self._lark.literal(end)}{more}"

    def _value(self, schema: Any, where: str) -> str:
        """A value, and what every value is followed by."""
        if not isinstance(schema, dict):
            if schema is False:
                raise InputError(f"{where}: nothing may stand there; leave it out")
            schema = {}
        after = self._lark.literal(self._form.after) if self._form.after else ""
        if "enum" in schema or "const" in schema:
            values = schema.get("enum", [schema.get("const")])
            if not values:
                raise InputError(f"{where}: its enum is empty")
            return f"({' | '.join(self._written(one, where) for one in values)}) {after}"
        if isinstance(schema.get("anyOf"), list):
            if not schema["anyOf"]:
                raise InputError(f"{where}: its anyOf is empty")
            return f"({' | '.join(self._value(one, where) for one in schema['anyOf'])})"
        kinds = schema.get("type", "string")
        if isinstance(kinds, list):
            each = (self._value({**schema, "type": kind}, where) for kind in kinds)
            return f"({' | '.join(each)})"
        true, false, null = map(json.dumps, self._form.words)
        if kinds == "string":
            self._refuse_others(schema, _SAID | _HELD["string"], where)
            return self._string(schema, where)
        if kinds == "boolean":
            return f"({true} | {false}) {after}"
        if kinds == "null":
            return f"{null} {after}"
        if kinds in ("integer", "number"):
            self._refuse_others(schema, _SAID | _HELD["integer"], where)
            return f"{self._lark.json(schema, _PLAIN)} {after}"
        if self._form.nested is None:
            raise InputError(
                f"{where}: this model's template writes an {kinds} in a way of its own, which can't be bounded; "
                "leave the tool out"
            )
        return f"{self._lark.json(schema, self._form.nested)} {after}"

    def _string(self, schema: dict[str, Any], where: str) -> str:
        opened, closed = self._form.quotes
        ended = closed + self._form.after
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        if max(least, most or 0) > _MOST_LENGTH:
            raise InputError(
                f"{where}: lengths above {_MOST_LENGTH} can't be held in this model's calls"
            )
        many = f"{{{least},{'' if most is None else most}}}" if least or most is not None else "*"
        start = f"{self._lark.literal(opened)} " if opened else ""
        if self._form.escaped:
            char = self._lark.pattern(closed)
            inside = rf"([^\\{char}\n\r]|\\[nrt\\{char}])"
            return f"{start}/{inside}{many}{char}/ {self._lark.literal(self._form.after)}"
        cut = self._lark.before_token(ended)
        if cut is not None:
            before, rest = cut
            name = self._lark.terminal(rf"(.|\n){many}{self._lark.pattern(before)}")
            optional = "" if least or before else "?"
            return f"{start}{name}{optional} {self._lark.literal(rest)}"
        # Up to what ends a text in the first place where it stands.
        lazily = self._lark.lazily(rf"(.|\n){many}{self._lark.pattern(ended)}")
        return f"{start}{lazily}"

    def _written(self, value: Any, where: str) -> str:
        """A value of a closed set, as the template writes it."""
        if isinstance(value, str):
            return self._text_written(value, where)
        for word, own in zip(self._form.words, (True, False, None), strict=True):
            if value is own:
                return json.dumps(word)
        if isinstance(value, int | float):
            return json.dumps(json.dumps(value))
        raise InputError(
            f"{where}: an enum of lists or objects can't be held in this model's calls"
        )

    def _text_written(self, value: str, where: str) -> str:
        opened, closed = self._form.quotes
        if self._form.escaped:
            for char in ("\\", closed):
                value = value.replace(char, f"\\{char}")
            value = value.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
        elif (closed or self._form.after) in value:
            raise InputError(
                f"{where}: {value[:40]!r} can't be told from what ends it in this model's calls"
            )
        # What looks like a control token in it is text.
        lit = self._lark.literal
        around = [lit(opened) if opened else "", json.dumps(value), lit(closed) if closed else ""]
        return " ".join(filter(None, around))

    def _refuse_key(self, key: str, where: str) -> None:
        """Raise InputError for a key that could not be told from what stands around it."""
        form = self._form
        around = [
            text for text in (form.assign, form.after, form.item, *form.quotes) if text.strip()
        ]
        if key != key.strip() or not key or any(text.strip() in key for text in around):
            raise InputError(
                f"{where}: the name {key[:40]!r} can't be told from what stands around it in this model's calls; "
                "rename it"
            )

    def _refuse_others(self, schema: dict[str, Any], held: set[str], where: str) -> None:
        others = [word for word in schema if word not in held and not word.startswith("x-")]
        if others:
            raise InputError(
                f"{where}: {others[0]} can't be held in this model's calls; leave it out"
            )
