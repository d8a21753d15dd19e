"""A request's ``response_format``: what bounds the answer.

Form: https://platform.openai.com/docs/guides/structured-outputs. A schema is held, strict or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepeft.errors import InputError, MissingError
from edgepeft.guidance import FREE, Grammar
from edgepeft.serving.fields import objection
from edgepeft.serving.refusals import RequestError, refuse

_WHERE = "response_format"


def requested_grammar(asked: Mapping[str, Any] | None) -> Grammar | None:
    """What a ``response_format`` bounds the answer by; None where there is none. May take a while.

    Raises RequestError (400) that names what is wrong with it.
    """
    if asked is None:
        return None
    kind = asked.get("type")
    honoured = ("type", "json_schema") if kind == "json_schema" else ("type",)
    refuse(objection(asked, honoured, {"json_schema": ()}), _WHERE)
    param = f"{_WHERE}.type"
    try:
        if kind == "text":
            return FREE
        if kind == "json_object":
            return Grammar.json_object(_WHERE)
        if kind == "json_schema":
            param = f"{_WHERE}.json_schema.schema"
            return Grammar.json_schema(_schema(asked.get("json_schema")), param)
    except InputError as error:
        raise RequestError(400, str(error), param=param) from None
    except MissingError as error:
        raise RequestError(
            400,
            f"{_WHERE}: this server can't bound answers ({error})",
            code="unsupported_parameter",
            param=_WHERE,
        ) from None
    raise RequestError(400, f"{param}: must be text, json_object or json_schema", param=param)


def _schema(sent: Any) -> dict[str, Any]:
    where = f"{_WHERE}.json_schema"
    if not isinstance(sent, dict):
        raise RequestError(400, f"{where}: must be an object of name and schema", param=where)
    refuse(objection(sent, ("name", "schema", "strict", "description"), {}), where)
    if not isinstance(sent.get("name"), str) or not sent["name"]:
        raise RequestError(400, f"{where}.name: must be a string", param=f"{where}.name")
    if not isinstance(sent.get("schema"), dict):
        raise RequestError(400, f"{where}.schema: must be an object", param=f"{where}.schema")
    schema: dict[str, Any] = sent["schema"]
    return schema
