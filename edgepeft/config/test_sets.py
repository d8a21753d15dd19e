"""Test rows given on the command line: a data file, or a recipe or run that also says how to read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgepeft.config.recipe import promised
from edgepeft.config.run_recipe import recipe_or_run
from edgepeft.config.sections import Data
from edgepeft.config.target_sections import Gates
from edgepeft.data.arrow_files import is_dataset_folder
from edgepeft.data.rows import Row
from edgepeft.data.template_modes import AUTO
from edgepeft.errors import InputError

_RECIPES = (".yaml", ".yml")


@dataclass(frozen=True)
class GivenTests:
    """Test rows in ``path``, read as ``data`` says and rendered with ``template``.

    ``gates`` are the recipe's own, the default ones for a data file. ``generic`` is the recipe's text for the
    generic measures, None for the one edgepeft ships.
    """

    path: Path
    data: Data
    template: str = AUTO
    generic: Path | None = None
    gates: Gates = field(default_factory=Gates)

    @classmethod
    def read(cls, file: Path) -> GivenTests:
        """Look ``file`` over; its rows are read later. Raises InputError."""
        if not file.exists():
            raise InputError(f"--test: {file} does not exist")
        if is_dataset_folder(file) or (not file.is_dir() and file.suffix not in _RECIPES):
            return cls(file, Data())
        recipe = recipe_or_run(file)
        data = recipe.recipe.data
        if data.test_file is None:
            raise InputError(f"--test: {file} names no data.test")
        generic = None if data.generic is None else recipe.resolve(data.generic)
        return cls(
            recipe.resolve(data.test_file), data, recipe.template, generic, promised(recipe.recipe)
        )

    def rows(self) -> list[Row]:
        """The rows, all of them. Raises InputError."""
        return self.data.test_rows(self.path)
