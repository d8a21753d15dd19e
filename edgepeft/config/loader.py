"""Reading a recipe: YAML or JSON, ``--set`` overrides, and errors that name the key and the mend."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgepeft.config.explain import explain
from edgepeft.config.recipe import Recipe
from edgepeft.data.template_modes import TEMPLATE_WORDS
from edgepeft.errors import InputError
from edgepeft.hub.ids import ROWS, parse_id
from edgepeft.utils.files import as_text, read_text_file
from edgepeft.utils.scalars import DEPTH, TEXT_BYTES, TextProblem
from edgepeft.utils.terminal_text import shortened
from edgepeft.utils.yaml_text import read_yaml, write_yaml

STDIN = Path("-")
"""Where a recipe's path would be: it comes on standard input."""


@dataclass(frozen=True)
class RecipeFile:
    """A validated recipe and where it came from.

    ``verbatim`` is the text as the user wrote it; ``folder`` is what the recipe's paths are relative to;
    ``variant`` is what a variant of a recipe with a matrix is called, empty for the recipe itself; ``notes`` say
    what of the file was set aside, ``decided`` what was chosen where nobody wrote the recipe.
    """

    recipe: Recipe
    path: Path | None
    verbatim: str
    folder: Path
    variant: str = ""
    notes: tuple[str, ...] = ()
    title: str = "run"
    decided: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """A name for the run: the file's stem, or the title of a recipe that is in no file."""
        return self.path.stem if self.path else self.title

    @property
    def adapter_name(self) -> str:
        """What the recipe's own adapter is called in hot-swap bundles: after the recipe, or its variant."""
        name = re.sub(r"[^A-Za-z0-9._-]", "-", self.variant or self.name).lstrip("._-")
        return name if name and name.casefold() != "base" else "trained"

    def resolve(self, value: str) -> Path:
        """Turn a path of the recipe into an absolute one; rows on the hub are downloaded.

        Raises InputError, MissingError for rows that can't be had.
        """
        if value.startswith(ROWS):
            from edgepeft.hub.fetch import rows

            return rows(value).path
        path = Path(value)
        # A home that nobody has, and links that form a loop, are told by whoever opens the path.
        with contextlib.suppress(RuntimeError):
            path = path.expanduser()
        return Path(os.path.realpath(self.folder / path))

    def adapter_folder(self, value: str) -> Path:
        """The folder of an adapter that the recipe names, by path or hub id. Raises InputError, MissingError."""
        path = self.resolve(value)
        asked = parse_id(value)
        if asked is None or path.exists():
            return path
        from edgepeft.hub.fetch import adapter_folder

        return adapter_folder(asked, f"adapter: {value}")

    @property
    def template(self) -> str:
        """The prompt template: the name of a mode, or the absolute path of a file."""
        template = self.recipe.data.template
        return template if template in TEMPLATE_WORDS else str(self.resolve(template))

    def resolved(self) -> dict[str, Any]:
        """The recipe with every default spelled out, as plain values."""
        # Beside an adapter, method and training say nothing and are refused.
        without = {"method", "training"} if self.recipe.adapter is not None else None
        return self.recipe.model_dump(mode="json", exclude=without)

    def resolved_yaml(self) -> str:
        """The recipe with every default spelled out, as YAML that loads again."""
        return write_yaml(self.resolved())

    def digest(self) -> str:
        """SHA-256 of the resolved recipe."""
        return hashlib.sha256(self.resolved_yaml().encode()).hexdigest()


def load_recipe(path: Path | None, overrides: Sequence[str] = ()) -> RecipeFile:
    """Read, override and validate a recipe.

    ``overrides`` are ``a.b=c`` strings whose values are read as YAML; an adapter among them takes the place of
    the file's ``method`` and ``training``. Without a path the recipe consists of the overrides alone and its
    paths are relative to the working folder; so are those of a recipe on standard input, whose path is ``-``.
    Raises InputError.
    """
    raw: dict[str, Any] = {}
    verbatim = ""
    if path is None and not overrides:
        raise InputError("no recipe; try `edgepeft tui` or `edgepeft build RECIPE.yaml`")
    if path is not None:
        verbatim = _text_of(path)
        raw = _mapping(verbatim, path)
    if path == STDIN:
        origin, path = _named(path), None
    else:
        origin = str(path) if path is not None else "the options"
    recipe, notes = _overridden(raw, overrides, f"{origin}: ")
    folder = path.resolve().parent if path is not None else Path.cwd()
    return RecipeFile(recipe, path, verbatim, folder, notes=notes)


def recipe_of_text(
    text: str, overrides: Sequence[str], folder: Path, title: str, decided: Sequence[str] = ()
) -> RecipeFile:
    """The recipe of a text that is in no file; ``overrides`` as in ``load_recipe``. Raises InputError."""
    recipe, notes = _overridden(read_yaml(text), overrides, "the options: ")
    return RecipeFile(recipe, None, text, folder, notes=notes, title=title, decided=tuple(decided))


def _text_of(path: Path) -> str:
    """What a recipe file or standard input holds. Raises InputError."""
    try:
        if path == STDIN:
            # A little more than may be read, so that an endless stream ends.
            return as_text(sys.stdin.buffer.read(TEXT_BYTES + 1), path)
        return read_text_file(path, TEXT_BYTES)
    except FileNotFoundError:
        raise InputError(f"{path}: no such recipe file") from None
    except InputError as error:
        reason = str(error).removeprefix(f"{path}").lstrip(": ")
        mend = "; give - to pipe one in" if "a pipe" in reason else ""
        raise InputError(f"{_named(path)}: cannot be read as a recipe ({reason}){mend}") from None


def _named(path: Path) -> str:
    return "stdin" if path == STDIN else str(path)


def _mapping(text: str, path: Path) -> dict[str, Any]:
    """The mapping that a recipe's text stands for. Raises InputError."""
    try:
        raw = read_yaml(text)
    except TextProblem as problem:
        place = f" line {problem.line}" if problem.line else ""
        raise InputError(f"{_named(path)}{place}: {problem}") from None
    if not isinstance(raw, dict | None):
        raise InputError(
            f"{_named(path)}: a recipe is a mapping with keys such as model, data, targets"
        )
    return raw or {}


def varied(recipe: RecipeFile, overrides: Sequence[str]) -> RecipeFile:
    """The same recipe with other values for some keys. Raises InputError."""
    settings, notes = _overridden(recipe.resolved(), overrides, "")
    return replace(recipe, recipe=settings, notes=notes)


def _overridden(
    raw: dict[str, Any], overrides: Sequence[str], origin: str
) -> tuple[Recipe, tuple[str, ...]]:
    """Apply overrides and validate; the recipe, and notes on it. An error begins with ``origin``."""
    given: list[tuple[str, Any, str]] = []
    for override in overrides:
        said = f"--set {shortened(override)}"
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{said}: write it as key=value, as in training.max_steps=10")
        given.append((key.strip(), _value_of(value, said), said))
    notes: tuple[str, ...] = ()
    for key, value, _ in given:
        if key == "adapter" and value is not None:
            notes = set_training_aside(raw, value)
    for key, value, said in given:
        put(raw, key, value, said)
    return validated(raw, origin), notes


def set_training_aside(raw: dict[str, Any], adapter: Any) -> tuple[str, ...]:
    """Remove from a raw recipe what says nothing once ``adapter`` is given; a note on what went, if any."""
    aside = ["method", "training", *([] if isinstance(adapter, list) else ["combine"])]
    gone = [key for key in aside if raw.pop(key, None)]
    if not gone:
        return ()
    *others, last = gone
    named = f"{', '.join(others)} and {last}" if others else last
    return (f"the adapter given replaces {named} of the recipe",)


def validated(raw: Mapping[str, Any], origin: str) -> Recipe:
    """The recipe of a mapping. Raises InputError, which begins with ``origin``."""
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise InputError(f"{origin}{explain(error)}") from None


def put(raw: dict[str, Any], key: str, value: Any, said: str) -> None:
    """Put a value at a dotted key; a mapping on the way that is missing is made. Raises InputError.

    ``said`` is what the user wrote, for the error.
    """
    parts = key.split(".")
    if len(parts) > DEPTH:
        raise InputError(
            f"{said}: the key has {len(parts)} parts; a recipe is not nested so deeply"
        )
    node = raw
    for part in parts[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise InputError(f"{said}: {part} is not a mapping in this recipe")
        node = child
    node[parts[-1]] = value


def parse_value(text: str) -> Any:
    """What a user means by text typed as a value: YAML, and plain text where it is none or is refused."""
    try:
        return read_yaml(text)
    except TextProblem:
        return text


def _value_of(text: str, said: str) -> Any:
    """The same of an override, where what is refused is an error. Raises InputError."""
    try:
        return read_yaml(text)
    except TextProblem as problem:
        if problem.syntax:
            return text
        raise InputError(f"{said}: {problem}") from None
