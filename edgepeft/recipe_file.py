"""Reading a recipe file: YAML, ``--set`` overrides, and errors that name the key and the mend."""

from __future__ import annotations

import difflib
import hashlib
import re
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from edgepeft.errors import InputError
from edgepeft.recipe import Recipe

STDIN = Path("-")
"""Where a recipe's path would be: it comes on standard input."""


@dataclass(frozen=True)
class RecipeFile:
    """A validated recipe and where it came from.

    ``verbatim`` is the text as the user wrote it; ``folder`` is what the recipe's paths are relative to;
    ``variant`` is what a variant of a recipe with a matrix is called, empty for the recipe itself.
    """

    recipe: Recipe
    path: Path | None
    verbatim: str
    folder: Path
    variant: str = ""

    @property
    def name(self) -> str:
        """A name for the run: the file's stem."""
        return self.path.stem if self.path else "run"

    @property
    def adapter_name(self) -> str:
        """What the recipe's own adapter is called in hot-swap bundles: after the recipe, or its variant."""
        name = re.sub(r"[^A-Za-z0-9._-]", "-", self.variant or self.name).lstrip("._-")
        return name if name and name.casefold() != "base" else "trained"

    def resolve(self, value: str) -> Path:
        """Turn a path of the recipe into an absolute one."""
        return (self.folder / Path(value).expanduser()).resolve()

    def resolved_yaml(self) -> str:
        """The recipe with every default spelled out, as YAML that loads again."""
        # Beside an adapter that exists, method and training say nothing and are refused.
        without = {"method", "training"} if self.recipe.adapter is not None else None
        return yaml.safe_dump(self.recipe.model_dump(mode="json", exclude=without), sort_keys=False)

    def digest(self) -> str:
        """SHA-256 of the resolved recipe."""
        return hashlib.sha256(self.resolved_yaml().encode()).hexdigest()


def load_recipe(path: Path | None, overrides: Sequence[str] = ()) -> RecipeFile:
    """Read, override and validate a recipe.

    ``overrides`` are ``a.b=c`` strings whose values are read as YAML. Without a path the recipe consists of the
    overrides alone and its paths are relative to the working folder; so are those of a recipe on standard
    input, whose path is ``-``. Raises InputError.
    """
    raw: Any = {}
    verbatim = ""
    if path is not None:
        try:
            verbatim = sys.stdin.read() if path == STDIN else path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InputError(f"{path}: no such recipe file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as a recipe ({error})") from None
        try:
            raw = yaml.safe_load(verbatim)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = f" line {mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or "not valid YAML"
            raise InputError(f"{path}{place}: not valid YAML: {problem}") from None
        if raw is None:
            raw = {}
        if not isinstance(raw, dict):
            raise InputError(
                f"{path}: a recipe is a mapping with keys such as model, data, targets"
            )
    if path == STDIN:
        origin, path = "stdin", None
    else:
        origin = str(path) if path is not None else "the options"
    recipe = _overridden(raw, overrides, f"{origin}: ")
    folder = path.resolve().parent if path is not None else Path.cwd()
    return RecipeFile(recipe, path, verbatim, folder)


def varied(recipe: RecipeFile, overrides: Sequence[str]) -> RecipeFile:
    """The same recipe with other values for some keys. Raises InputError."""
    raw = yaml.safe_load(recipe.resolved_yaml())
    return replace(recipe, recipe=_overridden(raw, overrides, ""))


def _overridden(raw: dict[str, Any], overrides: Sequence[str], origin: str) -> Recipe:
    """Apply overrides and validate; an error begins with ``origin``."""
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise InputError(
                f"--set {override}: write it as key=value, as in training.max_steps=10"
            )
        put(raw, key.strip(), parse_value(value), f"--set {override}")
    return validated(raw, origin)


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
    node = raw
    for part in parts[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise InputError(f"{said}: {part} is not a mapping in this recipe")
        node = child
    node[parts[-1]] = value


def parse_value(text: str) -> Any:
    """What a user means by text typed as a value: YAML, and plain text where it is none."""
    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    # YAML 1.1 reads 1e-3 as a string; a user means the number, unless it is quoted.
    plain = isinstance(parsed, str) and parsed == text.strip()
    return float(parsed) if plain and _is_number(parsed) else parsed


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.lower() not in {"nan", "inf", "-inf", "infinity", "-infinity"}


def problems_of(raw: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a recipe's values: the key of each problem, and the words ``load_recipe`` has for it.

    Problems that belong to no key (an adapter beside training, say) have the key "".
    """
    try:
        Recipe.model_validate(raw)
    except ValidationError as error:
        found: dict[str, str] = {}
        for item in _items(error):
            found.setdefault(".".join(map(str, item["loc"])), _explain_one(item))
        return found
    return {}


def explain(error: ValidationError) -> str:
    """The first problems of a validation, in one line, each with its key and the mend."""
    problems = [_explain_one(item) for item in _items(error)]
    shown = "; ".join(problems[:3])
    return shown if len(problems) <= 3 else f"{shown}; and {len(problems) - 3} more"


_UNION_MEMBER = re.compile(r"str|int|float|bool|(list|dict)\[.*\]")
"""How pydantic names, within a location, the member of a union that it tried: no key of the recipe."""


def _items(error: ValidationError) -> list[dict[str, Any]]:
    """The problems of a validation at the keys a user knows, one for a key.

    A value that may be of several kinds is held against each of them: what is told is what is wrong inside the
    kind that fits, or, where none does, which kinds there are.
    """
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    whole: set[tuple[Any, ...]] = set()
    for item in error.errors(include_url=False):
        place = tuple(part for part in item["loc"] if not _UNION_MEMBER.fullmatch(str(part)))
        if _UNION_MEMBER.fullmatch(str(item["loc"][-1] if item["loc"] else "")):
            whole.add(place)
        if place in merged:
            kind = str(item["msg"]).removeprefix("Input should be ")
            merged[place]["msg"] += f" or {kind}"
        else:
            merged[place] = {**item, "loc": place}
    return [
        item
        for place, item in merged.items()
        if place not in whole
        or not any(other != place and other[: len(place)] == place for other in merged)
    ]


def _explain_one(item: Mapping[str, Any]) -> str:
    location = [str(part) for part in item["loc"]]
    key = ".".join(location)
    if item["type"] == "extra_forbidden":
        known = _keys_at(location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        mend = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
        return f"{key}: no such key; {mend}"
    if item["type"] == "missing":
        return f"{key}: this key is required"
    message = str(item["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = item.get("input")
    shown = f" (got {given!r})" if isinstance(given, (int, float, str, bool)) else ""
    return f"{key}: {message}{shown}" if key else message


def _keys_at(location: list[str]) -> list[str]:
    """The keys the recipe knows at a location such as ``["training"]`` or ``["targets", "0"]``."""
    model: type[BaseModel] = Recipe
    for part in location:
        if part.isdigit():
            continue
        field = model.model_fields.get(part)
        if field is None:
            return []
        inner = list(_sections_in(field.annotation))
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections among the types that an annotation is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _sections_in(part)
