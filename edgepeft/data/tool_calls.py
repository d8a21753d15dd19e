"""Calls of tools in messages, as OpenAI, transformers and ShareGPT write them, in the one form of templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepeft.data.fields import says_nothing
from edgepeft.data.rows import Function, Message, Tool, ToolCall
from edgepeft.data.tools import from_json, name_of, parameters_of, require_name
from edgepeft.errors import InputError, nearest
from edgepeft.utils.strict_json import nested_deeper

_MEND = 'write [{"function": {"name": "…", "arguments": {…}}}]'
_MOST_DEPTH = 64
_BESIDE = ("id", "type", "index", "function")
_FUNCTION = ("name", "arguments", "parameters")


def read_calls(value: Any, where: str) -> list[ToolCall]:
    """The calls that a message holds: a list of them, one, or the JSON text of either. Raises InputError."""
    if isinstance(value, str):
        value = from_json(value, where)
    if nested_deeper(value, _MOST_DEPTH):
        raise InputError(f"{where}: nested too deeply")
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise InputError(f"{where}: no call in it; {_MEND}")
    return [_call(one, f"{where}[{number}]") for number, one in enumerate(listed, 1)]


def fitted(
    messages: Sequence[Message], tools: Sequence[Tool], where: str, *, others: bool = False
) -> list[Message]:
    """``messages``, the arguments of their calls in the order of the tools' parameters.

    That is the order in which an answer within a grammar has them. A null for a parameter that a tool does not
    have, or that can't be null, is left out: Parquet gives every object the keys of all. Raises InputError for a
    call of a tool that is none of ``tools``, if there are any, unless there may be ``others``.
    """
    schemas = {name_of(tool): parameters_of(tool) for tool in tools}
    return [
        {
            **turn,
            "tool_calls": [_fitted(call, schemas, where, others) for call in turn["tool_calls"]],
        }
        if "tool_calls" in turn
        else turn
        for turn in messages
    ]


def _call(value: Any, where: str) -> ToolCall:
    function = value
    if isinstance(value, dict):
        function = value if value.get("function") is None else value["function"]
    if not isinstance(function, dict):
        raise InputError(f"{where}: should be a call of a function; {_MEND}")
    if function is not value:
        _refuse_others(value, _BESIDE, where)
    _refuse_others(function, (*_BESIDE, *_FUNCTION), where)
    if value.get("type") not in (None, "function"):
        raise InputError(f"{where}: only functions can be called, not {str(value['type'])[:40]!r}")
    name = require_name(function.get("name"), f"{where}: its name")
    given = function.get("arguments")
    if given is None:
        given = function.get("parameters")
    if isinstance(given, str):
        given = from_json(given, f"{where}: the arguments of {name}") if given.strip() else {}
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise InputError(f"{where}: the arguments of {name} should be an object")
    call: ToolCall = {"type": "function", "function": Function(name=name, arguments=given)}
    own = value.get("id")
    if not says_nothing(own):
        if not isinstance(own, str | int):
            raise InputError(f"{where}: its id should be a text")
        call["id"] = str(own)
    return call


def _refuse_others(value: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Raise InputError for a key that is none of a call's: what stands there would be lost."""
    other = next((key for key in value if key not in known and not says_nothing(value[key])), None)
    if other is not None:
        raise InputError(f"{where}: a call has no {other[:80]!r}; {_MEND}")


def _fitted(
    call: ToolCall, schemas: Mapping[str, dict[str, Any]], where: str, others: bool
) -> ToolCall:
    name = call["function"]["name"]
    schema = schemas.get(name)
    if schema is None:
        if not schemas or others:
            return call
        near = nearest(name, schemas)
        hint = f"did you mean {near}?" if near else f"it has {', '.join(list(schemas)[:8])}"
        raise InputError(f"{where}: calls {name}, which is none of its tools; {hint}")
    arguments = _in_order(call["function"]["arguments"], schema, schema)
    return {**call, "function": {"name": name, "arguments": arguments}}


def _in_order(value: Any, schema: Any, root: Mapping[str, Any]) -> Any:
    schema = _meant(schema, root)
    if schema is None:
        return value
    if isinstance(value, list):
        return [_in_order(one, schema.get("items"), root) for one in value]
    properties = schema.get("properties")
    if not isinstance(value, dict) or not isinstance(properties, dict):
        return value
    needed = schema.get("required")
    known = [
        key
        for key, part in properties.items()
        if key in value
        and (value[key] is not None or key in (needed or ()) or _nullable(_meant(part, root)))
    ]
    further = [key for key in value if key not in properties and value[key] is not None]
    return {key: _in_order(value[key], properties.get(key), root) for key in (*known, *further)}


def _meant(schema: Any, root: Mapping[str, Any]) -> dict[str, Any] | None:
    """A schema, or what it refers to among the definitions beside it; None for what is none."""
    reference = schema.get("$ref") if isinstance(schema, dict) else None
    if isinstance(reference, str):
        for place in ("$defs", "definitions"):
            named = root.get(place)
            if isinstance(named, dict) and reference.startswith(f"#/{place}/"):
                schema = named.get(reference.removeprefix(f"#/{place}/"))
    return schema if isinstance(schema, dict) else None


def _nullable(schema: dict[str, Any] | None) -> bool:
    """Whether null may be a value, as far as a schema says in the ways that are in use."""
    if schema is None:
        return True
    choices = [one for word in ("anyOf", "oneOf") for one in schema.get(word) or ()]
    if choices:
        return any(isinstance(one, dict) and _nullable(one) for one in choices)
    if "const" in schema or "enum" in schema:
        return None in (schema.get("enum") or [schema.get("const")])
    kinds = schema.get("type")
    return kinds is None or "null" in kinds
