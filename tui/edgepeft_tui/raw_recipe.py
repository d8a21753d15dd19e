"""A recipe as the mapping that YAML holds: values by dotted key, lists of sections, the steps of the wizard."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import BaseModel

from edgepeft.config.recipe import Recipe
from edgepeft_tui.fields import is_list_of_sections

STEPS = ("Model", "Data", "Method", "Merge and quantize", "Targets", "Review")
_SECTIONS = {
    "model": "Model",
    "task": "Data",
    "answer": "Data",
    "data": "Data",
    "adapter": "Method",
    "combine": "Method",
    "method": "Method",
    "training": "Method",
    "merge": "Merge and quantize",
    "quantize": "Merge and quantize",
    "targets": "Targets",
    "adapters": "Targets",
    "layout": "Targets",
    "matrix": "Targets",
    "gates": "Targets",
}
DEFAULT_TARGETS = ("cpu-int4",)


def step_of(key: str) -> str:
    """The wizard's step that a recipe key belongs to; Review for what belongs to none.

    A section that is not known here belongs where the one declared before it does.
    """
    top, place = key.partition(".")[0], "Review"
    for declared in Recipe.model_fields:
        place = _SECTIONS.get(declared, place)
        if declared == top:
            return place
    return "Review"


SHORT = {"adapter": "path", "targets": "name"}
"""Lists whose parts may be written as the value of one key."""


def value_at(raw: dict[str, Any], key: str) -> Any:
    """The value at a key, None where nothing is said; a number in a key counts the parts of a list."""
    node: Any = raw
    for part in key.split("."):
        if isinstance(node, list):
            node = node[int(part)] if part.isdigit() and int(part) < len(node) else None
        else:
            node = node.get(part) if isinstance(node, dict) else None
    return node


def put_value(raw: dict[str, Any], key: str, value: Any) -> None:
    """Put a value at a key, making the sections it lies in; None takes the key away, and what it leaves empty."""
    *way, last = key.split(".")
    nodes: list[Any] = [raw]
    for part in way:
        if isinstance(nodes[-1], list):
            nodes.append(nodes[-1][int(part)])
            continue
        child = nodes[-1].get(part)
        if not isinstance(child, (dict, list)):
            child = {}
            nodes[-1][part] = child
        nodes.append(child)
    if value is None:
        nodes[-1].pop(last, None)
    else:
        nodes[-1][last] = value
    for parent, part in reversed(list(zip(nodes, way, strict=False))):
        if isinstance(parent, dict) and not parent[part]:
            del parent[part]


def spelled_out(raw: dict[str, Any]) -> dict[str, Any]:
    """A recipe in the one form that the fields work on, whichever of its short forms was written; in place."""
    if isinstance(raw.get("targets"), str):
        raw["targets"] = [raw["targets"]]
    for listed, key in SHORT.items():
        if isinstance(raw.get(listed), list):
            raw[listed] = [part if isinstance(part, dict) else {key: part} for part in raw[listed]]
    return raw


def is_sound(raw: dict[str, Any]) -> bool:
    """Whether a recipe has sections where sections belong, so that fields can be put into it."""
    for key, info in Recipe.model_fields.items():
        if key not in raw or key == "adapter":
            continue
        value = raw[key]
        if is_list_of_sections(key):
            parts = value if isinstance(value, list) else [value]
            if not isinstance(value, (list, str)) or not all(_is_part(key, p) for p in parts):
                return False
        elif _is_section(info.annotation) and not isinstance(value, dict):
            return False
    return all(isinstance(part, (str, dict)) for part in _listed(raw.get("adapter")))


def _is_part(key: str, part: object) -> bool:
    return isinstance(part, dict) or (key in SHORT and isinstance(part, str))


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def shortened(raw: dict[str, Any]) -> dict[str, Any]:
    """A copy with the short forms that people write: a path or a name alone where a part says nothing else."""
    raw = copy.deepcopy(raw)
    for listed, key in SHORT.items():
        if isinstance(raw.get(listed), list):
            raw[listed] = [
                part[key] if isinstance(part, dict) and list(part) == [key] else part
                for part in raw[listed]
            ]
    return raw
