"""The cells of a recipe with a matrix: each combination of choices with one target, as a recipe of its own."""

from __future__ import annotations

import copy
import fnmatch
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from edgepeft.config.loader import RecipeFile, put, set_training_aside, validated
from edgepeft.config.recipe import Choices
from edgepeft.errors import InputError, unknown_name

CELLS = 10_000
"""Cells of one recipe; a fleet of a thousand customers for ten devices each."""
_VALUES = 2_000_000
"""Values of the recipe, counted once for every cell: each is a recipe of its own."""


@dataclass(frozen=True)
class Cell:
    """One combination: the choice on each axis, by the axis' name, and the target.

    ``recipe`` is what the cell builds; it has no matrix and one target.
    """

    choices: Mapping[str, str]
    target: str
    recipe: RecipeFile

    @property
    def name(self) -> str:
        """What the cell is called, and where its bundle lies below ``bundles``: the choices, then the target."""
        return "/".join((*self.choices.values(), self.target))


def cells_of(recipe: RecipeFile) -> list[Cell]:
    """Every cell of a recipe, targets varying fastest; of one without a matrix, a cell for each target.

    Raises InputError for values that have no name, for choices of one name, where a cell is no valid recipe, and
    for more cells than ``CELLS``.
    """
    origin = f"{recipe.path}: " if recipe.path else ""
    axes = {axis: _named(axis, choices, origin) for axis, choices in recipe.recipe.matrix.items()}
    raw = recipe.recipe.model_dump(mode="json", exclude_unset=True, exclude={"matrix"})
    _check_size(math.prod(map(len, axes.values())), raw, origin)
    cells: list[Cell] = []
    for names in itertools.product(*axes.values()):
        chosen = dict(zip(axes, names, strict=True))
        where = "/".join(names)
        changed = copy.deepcopy(raw)
        for axis, name in chosen.items():
            _choose(changed, axes[axis][name], f"{origin}matrix.{axis}.{name}")
        whole = validated(changed, f"{origin}matrix: {where}: " if where else origin)
        if len(cells) + len(whole.targets) > CELLS:
            _refuse(f"more than {CELLS}", origin)
        for target in whole.targets:
            own = {**changed, "targets": [target.model_dump(mode="json", exclude_unset=True)]}
            settings = validated(own, f"{origin}matrix: {where}/{target.name}: ")
            variant = replace(recipe, recipe=settings, variant=where)
            cells.append(Cell(chosen, target.name, variant))
    return cells


def _check_size(combinations: int, raw: Mapping[str, Any], origin: str) -> None:
    """Refuse a matrix that would take for ever, before its first cell is made. Raises InputError."""
    if combinations > CELLS:
        _refuse(str(combinations), origin)
    values = combinations * _count(raw)
    if values > _VALUES:
        raise InputError(
            f"{origin}matrix: {combinations} cells of a recipe with {values // combinations} values are too "
            "large to plan; shorten the recipe or the matrix"
        )


def _refuse(count: str, origin: str) -> NoReturn:
    raise InputError(
        f"{origin}matrix: {count} cells; the limit is {CELLS}. Shorten its lists, or split it into several "
        "recipes"
    )


def _count(value: Any) -> int:
    """Values of all depths."""
    inner = (
        value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    )
    return 1 + sum(map(_count, inner))


def chosen_cells(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """The cells that ``only`` names, all where it names none: a name, its beginning up to a /, or a pattern.

    Raises InputError for what no cell is called.
    """
    if not only:
        return list(cells)
    names = [cell.name for cell in cells]
    wanted: set[str] = set()
    for pattern in only:
        place = pattern.rstrip("/")
        found = [
            name
            for name in names
            if name.startswith(f"{place}/") or fnmatch.fnmatchcase(name, place)
        ]
        if not found:
            raise unknown_name("--only", "cell", pattern, names)
        wanted.update(found)
    return [cell for cell in cells if cell.name in wanted]


def _choose(raw: dict[str, Any], keys: Mapping[str, Any], where: str) -> None:
    """Set the keys of a choice. An adapter sets training aside, unless the choice speaks of it."""
    if keys.get("adapter") is not None:
        set_training_aside(raw, keys["adapter"])
    for key, value in keys.items():
        if key.partition(".")[0] == "matrix":
            raise InputError(f"{where}: {key}: a matrix can't contain a matrix")
        put(raw, key, _merged(_at(raw, key), value), f"{where}: {key}")


def _at(raw: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key, None where there is none."""
    node: Any = raw
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _merged(old: Any, new: Any) -> Any:
    """A value in another's place; of two mappings the keys that are not named again stay."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return new
    return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}


def _named(axis: str, choices: Choices, origin: str) -> dict[str, dict[str, Any]]:
    """The choices of an axis by name, each as the keys that it sets."""
    if isinstance(choices, dict):
        return choices
    named: dict[str, dict[str, Any]] = {}
    for value in choices:
        name = _name(axis, value, origin)
        if name in named:
            raise InputError(
                f"{origin}matrix.{axis}: two values are called {name}; name them yourself, as "
                f"{axis.rpartition('.')[2]}: {{one: {{{axis}: …}}, other: {{{axis}: …}}}}"
            )
        named[name] = {axis: value}
    return named


def _name(axis: str, value: Any, origin: str) -> str:
    """What a value of a key is called: text as it is (a path: its last part), all else with its key in front."""
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        text = value["name"]
    elif isinstance(value, str):
        text = Path(value).name
    elif value is None or isinstance(value, (bool, int, float)):
        said = "none" if value is None else str(value).lower()
        text = f"{axis.rpartition('.')[2]}-{said}"
    else:
        text = ""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("._-")
    if not name:
        raise InputError(
            f"{origin}matrix.{axis}: {value!r} has no name; name it yourself, as "
            f"{axis.rpartition('.')[2]}: {{one: {{{axis}: …}}}}"
        )
    return name
