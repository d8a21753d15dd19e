"""What is wrong with a recipe's values, in words that name the key and the mend."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from edgepeft.config.recipe import Recipe
from edgepeft.utils.terminal_text import shortened


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
    location = [shortened(part, 40) for part in item["loc"]]
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
    shown = f" (got {shortened(repr(given))})" if isinstance(given, (int, float, str)) else ""
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
