"""Which base a recipe's hot-swap bundles carry: the one that was frozen under its own adapter."""

from __future__ import annotations

from typing import Any

from edgepeft.adapters.folder import find_adapter
from edgepeft.adapters.methods import find_method
from edgepeft.adapters.provenance import TrainingGrid, read_provenance
from edgepeft.config.loader import RecipeFile


def frozen_base(recipe: RecipeFile) -> dict[str, Any]:
    """Grid, and names of the weights on it (None: every linear layer), as provenance has them.

    It is known before the adapter is trained, so that a base once rounded serves every adapter trained on it.
    """
    settings = recipe.recipe
    if settings.merge.base == "original":
        return {"grid": TrainingGrid().as_dict(), "quantized": None}
    if settings.adapter is None:
        method = settings.method.model_dump(mode="json")
        grid = TrainingGrid(find_method(method["name"]).chosen_grid(method))
        return {"grid": grid.as_dict(), "quantized": None}
    first = settings.adapter if isinstance(settings.adapter, str) else settings.adapter[0].path
    known = read_provenance(find_adapter(recipe.resolve(first)), settings.merge.grid).as_dict()
    return {"grid": known["grid"], "quantized": known["quantized"]}
