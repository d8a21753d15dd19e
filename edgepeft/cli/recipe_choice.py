"""The recipe that a command is about: from a file, a run, or options alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    # Reading recipes loads pydantic, which --help has no use for.
    from edgepeft.config.loader import RecipeFile


class Short(NamedTuple):
    """What the options say that are short for keys of a recipe."""

    model: str | None = None
    adapter: str | None = None
    data: str | None = None
    targets: list[str] | None = None
    steps: int | None = None

    def changes(self) -> list[str]:
        """The same as overrides; a path is typed relative to the working folder. Raises InputError."""
        from edgepeft.errors import InputError
        from edgepeft.utils.yaml_text import flow, quoted

        found = []
        for option, key, path in (
            ("--model", "model", self.model),
            ("--adapter", "adapter", self.adapter),
            ("--data", "data.train", self.data),
        ):
            if path is not None:
                try:
                    path.encode()
                except UnicodeEncodeError:
                    raise InputError(f"{option} {path}: not a name in UTF-8; rename it") from None
                found.append(f"{key}={quoted(_from_here(path))}")
        if self.targets:
            found.append(f"targets={flow(self.targets)}")
        if self.steps is not None:
            found.append(f"training.max_steps={self.steps}")
        return found


def recipe_from(recipe: Path | None, overrides: list[str] | None, short: Short) -> RecipeFile:
    """The recipe of a command: its file, then --set, then the short options. Raises InputError.

    Where there is no file, but rows, a recipe is written for them.
    """
    from edgepeft.config.loader import load_recipe
    from edgepeft.config.run_recipe import recipe_or_run

    if recipe is None and short.data is not None:
        return _started(overrides or [], short)
    changes = [*(overrides or []), *short.changes()]
    if recipe is not None:
        from edgepeft.cli.meant import refuse_other_than_recipe

        refuse_other_than_recipe(recipe)
        return recipe_or_run(recipe, changes)
    return load_recipe(None, changes)


def _started(overrides: list[str], short: Short) -> RecipeFile:
    """A recipe for a model and rows, which nobody wrote. Raises InputError."""
    from edgepeft.config.loader import recipe_of_text
    from edgepeft.errors import InputError
    from edgepeft.starter import start_recipe

    short.changes()  # names that are none are told before anything is read
    assert short.data is not None
    if short.model is None:
        raise InputError(
            "--model: is missing beside --data; edgepeft models lists those with a short name"
        )
    if short.adapter is not None and short.steps is not None:
        raise InputError("--steps: nothing is trained with --adapter; leave one of them out")
    folder = Path.cwd()
    started = start_recipe(
        short.model,
        short.data,
        adapter=short.adapter,
        targets=short.targets or [],
        steps=short.steps,
        folder=folder,
    )
    title = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(short.data).stem).strip("-.") or "run"
    return recipe_of_text(started.text, overrides, folder, title, started.decided)


def with_mismatch(overrides: list[str] | None, allowed: bool) -> list[str]:
    """The overrides, with --allow-base-mismatch among them as the recipe key it is short for."""
    return [*(overrides or []), *(["merge.allow_base_mismatch=true"] if allowed else [])]


def check_matrix(recipe: RecipeFile, given: Mapping[str, object]) -> None:
    """Refuse options of a fleet for a recipe that is none. Raises InputError."""
    from edgepeft.errors import InputError

    for option, value in given.items():
        if value is not None and not recipe.recipe.matrix:
            raise InputError(f"{option}: the recipe has no matrix; leave it out")


def _from_here(value: str) -> str:
    """A path typed on the command line is relative to the working folder, not to the recipe."""
    return str(Path(value).resolve()) if Path(value).exists() else value
