"""From a request's body to its fields, each honoured, harmless, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from edgepeft.errors import one_line
from edgepeft.serving.fields import objection
from edgepeft.serving.refusals import RequestError, refuse
from edgepeft.utils import strict_json


class Strict(BaseModel):
    """Fields of the types that are declared and no others."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Fields(Strict):
    """The fields of a request that are honoured; ``read`` makes one.

    ``neutral`` and ``harmless`` are the tables of those that are not (see ``fields``).
    """

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    harmless: ClassVar[frozenset[str]] = frozenset()

    model: str

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Parse a body. Raises RequestError (400) that names the field."""
        sent = _json_object(body)
        refuse(objection(sent, tuple(cls.model_fields), cls.neutral, cls.harmless))
        fields = {
            name: value
            for name, value in sent.items()
            # Clients send null for what they leave open.
            if name in cls.model_fields and value is not None
        }
        try:
            asked = cls.model_validate(cls.prepared(fields))
        except ValidationError as error:
            first = error.errors()[0]
            param = ".".join(str(part) for part in first["loc"])
            raise RequestError(400, f"{param}: {first['msg']}", param=param) from None
        asked.check()
        return asked

    @classmethod
    def prepared(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """What was sent in the forms that are declared. Raises RequestError (400)."""
        return fields

    def check(self) -> None:
        """Raise RequestError (400) for what the types alone don't say."""


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        sent = strict_json.loads(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise RequestError(400, "the body is not UTF-8 text") from None
    except ValueError as error:
        raise RequestError(400, f"the body is not JSON: {one_line(error)}") from None
    if not isinstance(sent, dict):
        raise RequestError(400, "the body must be a JSON object")
    return sent
