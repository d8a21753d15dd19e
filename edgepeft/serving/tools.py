"""A request's tools: what may be called, what must be, and the turns of calls and results in its messages.

Form: https://platform.openai.com/docs/guides/function-calling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from edgepeft.data.rows import Message
from edgepeft.data.tool_calls import read_calls
from edgepeft.errors import InputError
from edgepeft.serving.fields import CALL_NEUTRAL, FUNCTION_NEUTRAL, objection
from edgepeft.serving.refusals import RequestError, refuse
from edgepeft.tool_calling.offered import Offered

NONE = Offered(())


def requested_tools(tools: Sequence[Any], choice: Any, several: bool) -> Offered:
    """What a request offers. Raises RequestError (400) that names what is wrong with it."""
    try:
        offered = Offered(tuple(tools), required=choice == "required", several=several)
    except InputError as error:
        raise RequestError(400, str(error), param="tools") from None
    if not offered.tools and choice not in (None, "none", "auto"):
        raise RequestError(
            400, "tool_choice: there are no tools to choose from", param="tool_choice"
        )
    if choice == "none":
        return NONE  # what is not offered can't be called
    if choice in (None, "auto", "required"):
        return offered
    try:
        return offered.only(_named(choice))
    except InputError as error:
        said = str(error).removeprefix("tools: ")
        raise RequestError(400, f"tool_choice: {said}", param="tool_choice") from None


def calling_turn(sent: dict[str, Any], turn: Message, where: str) -> Message:
    """An assistant's turn with its calls. Raises RequestError (400)."""
    listed = sent["tool_calls"]
    for at, call in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(call, dict):
            place = f"{where}.tool_calls.{at}"
            refuse(objection(call, ("id", "type", "function"), CALL_NEUTRAL), place)
            if isinstance(function := call.get("function"), dict):
                own = objection(function, ("name", "arguments"), FUNCTION_NEUTRAL)
                refuse(own, f"{place}.function")
    param = f"{where}.tool_calls"
    try:
        calls = read_calls(listed, param)
    except InputError as error:
        raise RequestError(400, str(error), param=param) from None
    return {**turn, "tool_calls": calls}


def answering_turn(sent: dict[str, Any], turn: Message, where: str) -> Message:
    """A tool's turn, with which call it answers, and which tool it is of. Raises RequestError (400)."""
    found: dict[str, Any] = {**turn}
    for name in ("tool_call_id", "name"):
        value = sent.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise RequestError(400, f"{where}.{name}: must be a string", param=f"{where}.{name}")
        found[name] = value
    return cast("Message", found)


def _named(choice: Any) -> str:
    """The function that must be called."""
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or choice.get("type") != "function":
        raise RequestError(
            400,
            'tool_choice: must be none, auto, required or {"type": "function", "function": {"name": …}}',
            param="tool_choice",
        )
    return name
