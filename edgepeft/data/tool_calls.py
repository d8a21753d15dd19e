"""Calls of tools in messages, as OpenAI, transformers and ShareGPT write them, in the one form of templates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgepeft.data.fields import says_nothing
from edgepeft.data.rows import Function, Message, Tool, ToolCall
from edgepeft.data.tools import from_json, name_of, parameters_of, require_name
from edgepeft.errors import InputError, nearest

_MEND = 'write [{"function": {"name": "…", "arguments": {…}}}]'


def read_calls(value: Any, where: str) -> list[ToolCall]:
    """The calls that a message holds: a list of them, one, or the JSON text of either. Raises InputError."""
    if isinstance(value, str):
        value = from_json(value, where)
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise InputError(f"{where}: no call in it; {_MEND}")
    return [_call(one, f"{where}[{number}]") for number, one in enumerate(listed, 1)]


def result_text(value: Any) -> Any:
    """What a tool answered, as text: anything that is not text already is written as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def fitted(messages: Sequence[Message], tools: Sequence[Tool], where: str) -> list[Message]:
    """``messages``, the arguments of their calls in the order of the tools' parameters.

    That is the order in which an answer within a grammar has them. A null for a parameter that a tool does not
    have is left out: Parquet gives every object the keys of all. Raises InputError for a call of a tool that is
    none of ``tools``, if there are any.
    """
    schemas = {name_of(tool): parameters_of(tool) for tool in tools}
    return [
        {**turn, "tool_calls": [_fitted(call, schemas, where) for call in turn["tool_calls"]]}
        if "tool_calls" in turn
        else turn
        for turn in messages
    ]


def _call(value: Any, where: str) -> ToolCall:
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict):
        raise InputError(f"{where}: should be a call of a function; {_MEND}")
    if value.get("type") not in (None, "function"):
        raise InputError(f"{where}: only functions can be called, not {str(value['type'])[:40]!r}")
    name = require_name(function.get("name"), f"{where}: its name")
    given = function.get("arguments", function.get("parameters"))
    if isinstance(given, str):
        given = from_json(given, f"{where}: the arguments of {name}") if given.strip() else {}
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise InputError(f"{where}: the arguments of {name} should be an object")
    call: ToolCall = {"type": "function", "function": Function(name=name, arguments=given)}
    if not says_nothing(value.get("id")):
        call["id"] = str(value["id"])
    return call


def _fitted(call: ToolCall, schemas: Mapping[str, dict[str, Any]], where: str) -> ToolCall:
    name = call["function"]["name"]
    schema = schemas.get(name)
    if schema is None:
        if not schemas:
            return call
        near = nearest(name, schemas)
        hint = f"did you mean {near}?" if near else f"it has {', '.join(list(schemas)[:8])}"
        raise InputError(f"{where}: calls {name}, which is none of its tools; {hint}")
    arguments = _in_order(call["function"]["arguments"], schema)
    return {**call, "function": {"name": name, "arguments": arguments}}


def _in_order(value: Any, schema: Any) -> Any:
    if not isinstance(schema, dict):
        return value
    if isinstance(value, list):
        return [_in_order(one, schema.get("items")) for one in value]
    properties = schema.get("properties")
    if not isinstance(value, dict) or not isinstance(properties, dict):
        return value
    known = [key for key in properties if key in value]
    further = [key for key in value if key not in properties and value[key] is not None]
    return {key: _in_order(value[key], properties.get(key)) for key in (*known, *further)}
