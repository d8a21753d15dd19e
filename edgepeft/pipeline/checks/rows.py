"""What of rows does not go with the model, its context or its chat template."""

from __future__ import annotations

import os

from edgepeft.config.sections import Data
from edgepeft.data.row_checks import check_objective, refuse_empty
from edgepeft.data.template_checks import render_kinds
from edgepeft.errors import InputError
from edgepeft.models.tasks import GENERATION
from edgepeft.pipeline.resolved import ResolvedRecipe


def check_length(resolved: ResolvedRecipe) -> None:
    """``data.max_length``: beyond the context, where it was asked for; the default gives way to it."""
    asked, default = resolved.recipe.data.max_length, Data.model_fields["max_length"].default
    context = resolved.model.context_length
    if asked != default and asked > context:
        raise InputError(
            f"data.max_length: {asked} is longer than the model's context, {context} tokens; lower it"
        )


def check_generation(resolved: ResolvedRecipe) -> None:
    """Rows of a model that generates against the objective and its chat template.

    One row of each kind of conversation is rendered; the rest is looked at once the base stage is there.
    """
    if resolved.task != GENERATION:
        return
    train, test, recipe = resolved.train_rows, resolved.test_rows, resolved.recipe
    refuse_empty((*train, *test))
    if not resolved.trains:
        return  # an adapter may bring a tokenizer and a template of its own
    check_objective(recipe.training.objective, train)
    model = resolved.model.path
    if os.path.lexists(model / "tokenizer.json"):
        template = resolved.file.template
        render_kinds(model, template, recipe.data.control_tokens, (*train, *test))
