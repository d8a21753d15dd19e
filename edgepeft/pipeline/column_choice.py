"""What there is to choose from where columns do not fit: the names of a file, and a guess at what they hold."""

from __future__ import annotations

from typing import Any

from edgepeft.config.loader import RecipeFile
from edgepeft.data.column_guess import guess_columns
from edgepeft.data.formats import read_records
from edgepeft.errors import InputError
from edgepeft.models import find_model, inspect_model
from edgepeft.models.tasks import ENCODER_TASKS, GENERATION, task_of_head


def choose_columns(recipe: RecipeFile) -> dict[str, Any]:
    """The columns of a recipe's file of rows, training rows first, whatever data.columns says of them.

    Returns ``file`` (its ``columns`` as it names them, and the number of ``rows``), ``guess`` (our names to the
    file's, empty where nothing can be told) and ``needed`` (our names of what the model's task learns from); both
    are empty where the file's own names fit. Raises InputError and MissingError where there is no such file or
    model.
    """
    data = recipe.recipe.data
    name = data.train or data.test_file
    if name is None:
        raise InputError("data.train: names no file")
    path = recipe.resolve(name)
    records = read_records(path)
    info = inspect_model(find_model(recipe.recipe.model, recipe.folder))
    asked = recipe.recipe.task
    task = task_of_head(info.architecture, info.config) if asked == "auto" else asked
    try:
        guess = guess_columns(records, path.name, task)
        needed = list(guess)
    except InputError:
        guess, needed = {}, _needed(task)
    return {
        "file": {
            "columns": list(dict.fromkeys(name for _, record in records for name in record)),
            "rows": len(records),
        },
        "guess": guess,
        "needed": needed,
    }


def _needed(task: str | None) -> list[str]:
    if task == GENERATION:
        return ["prompt", "completion"]
    return list(ENCODER_TASKS[task].columns) if task is not None else ["text", "label"]
