"""Whether a text that is there fits a JSON Schema: said by jsonschema, which knows nothing of grammars."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

from edgepeft.errors import InputError, MissingError, one_line
from edgepeft.utils import strict_json

_LONGEST = 200


class Judge:
    """Judges texts by one schema."""

    def __init__(self, schema: str) -> None:
        """``schema`` is the JSON text of one that was looked over. Raises MissingError without jsonschema."""
        if importlib.util.find_spec("jsonschema") is None:
            raise MissingError("jsonschema is not installed: pip install 'edgepeft[guided]'")
        from jsonschema.validators import Draft202012Validator, validator_for
        from referencing import Registry

        loaded = json.loads(schema)
        if isinstance(loaded, dict) and not isinstance(loaded.get("$schema", ""), str):
            raise InputError("the schema's $schema must be a text")
        # What is not in the schema itself is never fetched.
        self._validator: Any = validator_for(loaded, Draft202012Validator)(
            loaded, registry=Registry()
        )

    def parses(self, text: str) -> bool:
        """Whether a text is JSON."""
        try:
            strict_json.loads(text)
        except ValueError:
            return False
        return True

    def objection(self, text: str) -> str | None:
        """Why a text does not fit, in a few words; None where it does.

        Raises InputError for a schema with a pattern that Python's expressions do not know.
        """
        try:
            value = strict_json.loads(text)
        except ValueError as error:
            return f"not JSON: {error}"[:_LONGEST]
        try:
            wrong = next(self._validator.iter_errors(value), None)
        except Exception as error:  # of expressions, references and numbers, each of another kind
            raise InputError(
                f"the schema can't be judged by: {one_line(error)[:_LONGEST]}; write its patterns so that "
                "Python's expressions read them, too"
            ) from None
        return None if wrong is None else f"{wrong.json_path}: {wrong.message}"[:_LONGEST]
