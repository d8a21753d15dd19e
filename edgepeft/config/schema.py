"""The recipe's JSON Schema, for editors and forms; the same is shipped as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepeft.config.recipe import Recipe

SCHEMA_FILE = Path(__file__).with_name("recipe.schema.json")
"""What a recipe's first line names, so that editors complete and check its keys."""


def json_schema() -> dict[str, Any]:
    """The recipe's JSON Schema (draft 2020-12)."""
    schema = Recipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = "urn:edgepeft:recipe"
    schema["title"] = "edgepeft recipe"
    return schema
