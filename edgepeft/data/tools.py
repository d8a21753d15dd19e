"""Definitions of tools, as rows, requests and files have them: OpenAI's, transformers', and bare functions.

Form: https://platform.openai.com/docs/guides/function-calling and
https://huggingface.co/docs/transformers/chat_extras. A definition goes to the template as it was given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepeft.data.fields import TOOLS, says_nothing
from edgepeft.data.plain_text import refuse_halves
from edgepeft.data.rows import Tool
from edgepeft.errors import InputError, one_line
from edgepeft.utils import strict_json
from edgepeft.utils.files import read_text_file
from edgepeft.utils.strict_json import nested_deeper

MOST_TOOLS = 128
"""Of a conversation, as at OpenAI."""
MOST_BYTES = 256 * 1024
_MOST_DEPTH = 64
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")
_VALUES = ("default", "const", "enum", "examples")
"""Words of a schema under which null is a value."""
_MEND = '[{"type": "function", "function": {"name": "…", "parameters": {…}}}, …]'


def read_tools(value: Any, what: str) -> tuple[Tool, ...]:
    """The tools that a list holds, or its JSON text; ``what`` names it in errors.

    Raises InputError for what defines no functions, one defined twice, and more than anybody has.
    """
    if isinstance(value, str):
        value = from_json(value, what)
    if says_nothing(value):
        return ()
    if not isinstance(value, list):
        raise InputError(f"{what}: should be a list of tools; write {_MEND}")
    if len(value) > MOST_TOOLS:
        raise InputError(f"{what}: {len(value)} tools are more than {MOST_TOOLS}")
    tools = tuple(_tool(one, f"{what}[{number}]") for number, one in enumerate(value, 1))
    names = [name_of(tool) for tool in tools]
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise InputError(f"{what}: the tool {twice} is defined twice; give it another name")
    text = json.dumps(tools, ensure_ascii=False)
    refuse_halves(text, what)
    if len(text.encode()) > MOST_BYTES:
        raise InputError(f"{what}: larger than {MOST_BYTES} bytes; say less of each tool")
    return tools


def row_tools(record: Mapping[str, Any], where: str) -> tuple[Tool, ...]:
    """The tools of a row. Raises InputError for what are none, and for two lists of them."""
    given = [name for name in TOOLS if not says_nothing(record.get(name))]
    if len(given) > 1:
        raise InputError(f"{where}: has {' and '.join(given)}; keep one")
    return read_tools(record[given[0]], f"{where}: {given[0]}") if given else ()


def read_tools_file(path: Path, what: str) -> tuple[Tool, ...]:
    """The tools of a JSON file. Raises InputError, naming it, where there are none."""
    try:
        text = read_text_file(path, 4 * MOST_BYTES)
    except FileNotFoundError:
        raise InputError(f"{what} {path}: not found") from None
    tools = read_tools(text, f"{what} {path}")
    if not tools:
        raise InputError(f"{what} {path}: defines no tools; write {_MEND}")
    return tools


def name_of(tool: Tool) -> str:
    """What a tool is called by."""
    return str(tool["function"]["name"])


def parameters_of(tool: Tool) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments, which are an object."""
    given = tool["function"].get("parameters") or {}
    return {"type": "object", "properties": {}, **given}


def closed_parameters(tool: Tool) -> dict[str, Any]:
    """The same, where nothing else is called with unless the schema says so."""
    return {"additionalProperties": False, **parameters_of(tool)}


def from_json(text: str, what: str) -> Any:
    """The value of a JSON text. Raises InputError."""
    try:
        return strict_json.loads(text)
    except ValueError as error:
        raise InputError(f"{what}: not JSON ({one_line(error)[:200]})") from None


def require_name(name: Any, what: str) -> str:
    """The name of a function. Raises InputError for what can't be one."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InputError(
            f"{what} should be the name of a function, of letters, digits, '_', '-', '.' and ':', at most 128"
        )
    return name


def _tool(value: Any, where: str) -> Tool:
    if nested_deeper(value, _MOST_DEPTH):
        raise InputError(f"{where}: nested too deeply; use $defs and $ref for what repeats")
    if isinstance(value, dict) and value.get("function") is None and "name" in value:
        kept = {key: part for key, part in value.items() if key not in ("function", "type")}
        value = {"type": value.get("type") or "function", "function": kept}
    if not isinstance(value, dict) or not isinstance(value.get("function"), dict):
        kind = value.get("type") if isinstance(value, dict) else None
        told = f" (this one is {kind[:40]!r})" if isinstance(kind, str) else ""
        raise InputError(f"{where}: should define a function{told}; write {_MEND}")
    if (value.get("type") or "function") != "function":
        raise InputError(
            f"{where}.type: only functions can be called, not {str(value['type'])[:40]!r}"
        )
    tool: dict[str, Any] = _without_nulls(value)
    function = {"name": None, **tool["function"]}
    require_name(function["name"], f"{where}: its name")
    if not isinstance(function.get("description", ""), str):
        raise InputError(f"{where}: the description of {function['name']} should be a text")
    parameters = function.get("parameters", {})
    if not isinstance(parameters, dict) or parameters.get("type", "object") != "object":
        raise InputError(
            f"{where}: the parameters of {function['name']} should be the JSON Schema of an object"
        )
    if not isinstance(parameters.get("properties", {}), dict):
        raise InputError(f"{where}: the properties of {function['name']} should be an object")
    return {"type": "function", **tool, "function": function}


def _without_nulls(value: Any) -> Any:
    """``value`` without keys of null, which Parquet gives every object that lacks what another one has."""
    if isinstance(value, dict):
        return {
            key: part if key in _VALUES else _without_nulls(part)
            for key, part in value.items()
            if part is not None or key in _VALUES[:2]
        }
    if isinstance(value, list):
        return [_without_nulls(part) for part in value]
    return value
