"""The recipe's declaration as form fields: nothing about an option is said here that the recipe doesn't say."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from edgepeft.config.recipe import Recipe


@dataclass(frozen=True)
class Field:
    """One recipe key as a form shows it.

    ``key`` is the dotted recipe key, ``default`` what stands there when nothing is said, as YAML would write it.
    ``choices`` are the values there are, or empty for free text; ``range`` says the bounds in words. ``literal``
    text is taken as it is typed, where other fields read YAML; ``numeric`` fields take a number.
    """

    key: str
    help: str
    default: str = ""
    required: bool = False
    choices: tuple[str, ...] = ()
    range: str = ""
    literal: bool = False
    numeric: bool = False

    @property
    def label(self) -> str:
        """The key's last part, as words."""
        return self.key.rpartition(".")[2].replace("_", " ")

    @property
    def flag(self) -> str:
        """How the command line sets it; it sets a list as a whole."""
        listed = self.key.partition(".")[0]
        return f"--set {listed}=[…]" if _is_part(self.key) else f"--set {self.key}=…"

    @property
    def about(self) -> str:
        """Default and range in one line."""
        parts = [f"default {self.default}"] if self.default else []
        if self.required:
            parts.append("required")
        if self.range:
            parts.append(self.range)
        elif self.choices:
            parts.append("one of " + ", ".join(self.choices))
        return "; ".join(parts)


@cache
def all_fields() -> Mapping[str, Field]:
    """Every key of the recipe in the order of its declaration, sections taken apart."""
    return {field.key: field for field in _fields_of(Recipe, "")}


@cache
def part_fields(listed: str, index: int) -> Mapping[str, Field]:
    """The keys of one part of a list of sections (``targets``, ``adapters``), by its place in the list."""
    kind = _listed_section(Recipe.model_fields[listed].annotation)
    fields = _fields_of(kind, f"{listed}.{index}.") if kind is not None else []
    return {field.key: field for field in fields}


def is_list_of_sections(key: str) -> bool:
    """Whether a top-level key of the recipe holds a list whose parts are sections themselves."""
    info = Recipe.model_fields.get(key)
    return info is not None and _listed_section(info.annotation) is not None


def field_at(key: str) -> Field | None:
    """The field of a recipe key, parts of lists included; None where there is none."""
    listed, _, rest = key.partition(".")
    index = rest.partition(".")[0]
    if index.isdigit() and is_list_of_sections(listed):
        return part_fields(listed, int(index)).get(key)
    return all_fields().get(key)


def column_field(ours: str, names: Sequence[str]) -> Field:
    """The field that chooses which of a file's columns, by their ``names``, is one of ours."""
    return Field(
        key=f"data.columns.{ours}",
        help=f"The column of the file that is the {ours}.",
        default=ours if ours in names else "",
        required=False,
        choices=tuple(names),
        range="",
        literal=True,
    )


def _listed_section(annotation: Any) -> type[BaseModel] | None:
    for member in _members(annotation):
        for inner in typing.get_args(member) if typing.get_origin(member) is list else ():
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                return inner
    return None


def _is_part(key: str) -> bool:
    return any(part.isdigit() for part in key.split("."))


def _fields_of(model: type[BaseModel], prefix: str) -> list[Field]:
    found: list[Field] = []
    for name, info in model.model_fields.items():
        key = f"{prefix}{name}"
        members = _members(info.annotation)
        inner = members[0] if len(members) == 1 else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += _fields_of(inner, f"{key}.")
        else:
            found.append(_field(key, info))
    return found


def _field(key: str, info: FieldInfo) -> Field:
    options = _options(info.annotation)
    return Field(
        key=key,
        help=info.description or "",
        default=_shown(info.get_default(call_default_factory=True)),
        required=info.is_required(),
        choices=_registered(key) or options,
        range=_range(info),
        literal=not options and str in _members(info.annotation) and not _is_mixed(info.annotation),
        numeric=not options and any(_is_number(kind) for kind in _members(info.annotation)),
    )


def _registered(key: str) -> tuple[str, ...]:
    """Names that a registry holds, for the keys that name one."""
    if key == "method.name":
        from edgepeft.adapters.methods import all_methods

        return tuple(all_methods())
    if key == "combine.method":
        from edgepeft.combination.methods import METHODS

        return tuple(METHODS)
    if key == "quantize.algorithm":
        from edgepeft.quantization.algorithms import AUTO, algorithm_names

        return (AUTO, *algorithm_names())
    return ()


def _members(annotation: Any) -> tuple[Any, ...]:
    """The types of a union, None aside; of anything else, itself."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return tuple(arg for arg in typing.get_args(annotation) if arg is not type(None))
    return (annotation,)


def _is_number(member: Any) -> bool:
    """Whether a member of a union is a number, with bounds or without."""
    return getattr(member, "__origin__", member) in (int, float)


def _is_mixed(annotation: Any) -> bool:
    return len(_members(annotation)) > 1


def _options(annotation: Any) -> tuple[str, ...]:
    for member in _members(annotation):
        if typing.get_origin(member) is Literal:
            return tuple(_shown(value) for value in typing.get_args(member))
        if member is bool:
            return ("true", "false")
    return ()


def _range(info: FieldInfo) -> str:
    metadata = list(info.metadata)
    for member in _members(info.annotation):
        metadata += getattr(member, "__metadata__", ())
    words = []
    for rule in metadata:
        rules = getattr(rule, "metadata", [rule])
        for bound in rules:
            match bound:
                case Ge(ge=value):
                    words.append(f"at least {value:g}")
                case Gt(gt=value):
                    words.append(f"above {value:g}")
                case Le(le=value):
                    words.append(f"at most {value:g}")
                case Lt(lt=value):
                    words.append(f"below {value:g}")
    return ", ".join(words)


def _shown(value: Any) -> str:
    """A value as YAML writes it, empty for none."""
    if value is None or value is PydanticUndefined or value == {}:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "[" + ", ".join(_shown(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_shown(item)}" for name, item in value.items()) + "}"
    if isinstance(value, BaseModel):
        return _shown(value.model_dump(exclude_none=True))
    return str(value)


shown = _shown


def nearest_key(key: str) -> str:
    """The field that shows an error at ``key``: itself, or the nearest that holds it."""
    while field_at(key) is None and "." in key:
        key = key.rpartition(".")[0]
    return key
