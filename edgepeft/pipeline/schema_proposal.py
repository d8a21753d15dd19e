"""A schema of answers proposed from a recipe's training rows."""

from __future__ import annotations

from typing import Any

from edgepeft.config.loader import RecipeFile
from edgepeft.errors import InputError
from edgepeft.guidance.infer import infer_schema


def propose_schema(recipe: RecipeFile) -> tuple[dict[str, Any], list[str]]:
    """A schema that the completions of a recipe's training rows fit, and what is to be said of it.

    Rows that are held out for the test are not looked at. Raises InputError where there are no such rows, and for
    a completion that is not JSON.
    """
    data = recipe.recipe.data
    if data.train is None:
        raise InputError("data.train: a schema is inferred from training rows; name some")
    rows = data.read(recipe.resolve(data.train)).rows
    if data.held_out is not None:
        rows, _ = data.split(rows)
    answers = [(row.where, row.completion) for row in rows if row.messages is not None]
    if not answers:
        raise InputError(f"{data.train}: rows have no completions that a schema could be of")
    schema, notes = infer_schema(answers)
    return schema, [f"of {len(answers)} training rows", *notes]
