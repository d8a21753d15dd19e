"""What a JSON file from elsewhere must look like, as a declaration; ``problem`` finds the first thing that
doesn't.

A shape is a ``Leaf`` (one value), ``Items`` (a list of one shape) or ``Keys`` (an object, whose other keys are
refused unless it is ``open``). It takes no library, for a device opens bundles without pydantic.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_ITEMS = 65_536


@dataclass(frozen=True)
class Leaf:
    """One value: ``wanted`` in words, and whether a value is that."""

    wanted: str
    fits: Callable[[Any], bool]


@dataclass(frozen=True)
class Items:
    """A list, each entry of one shape."""

    of: Shape
    most: int = MOST_ITEMS


@dataclass(frozen=True)
class Keys:
    """An object. ``required`` keys must be there; with ``open`` further keys may be, and are not looked at."""

    known: Mapping[str, Shape]
    required: frozenset[str] = field(default_factory=frozenset)
    open: bool = False


Shape = Leaf | Items | Keys


def problem(value: Any, shape: Shape, path: str = "") -> str | None:
    """The first thing in ``value`` that has another shape, in words that begin with its path; None if it fits."""
    name = path or "the file"
    if isinstance(shape, Leaf):
        return None if shape.fits(value) else f"{name} must be {shape.wanted}"
    if isinstance(shape, Items):
        if not isinstance(value, list) or len(value) > shape.most:
            return f"{name} must be a list of at most {shape.most} entries"
        found = (problem(entry, shape.of, f"{path}.{index}") for index, entry in enumerate(value))
        return next((one for one in found if one is not None), None)
    if not isinstance(value, dict):
        return f"{name} must be an object"
    for key in sorted(shape.required - set(value)):
        return f"{_below(path, key)} must be {_wanted(shape.known[key])}, and is missing"
    for key, entry in value.items():
        if key in shape.known:
            found_here = problem(entry, shape.known[key], _below(path, key))
        else:
            found_here = None if shape.open else f"{_below(path, key)} is not among what may be set"
        if found_here is not None:
            return found_here
    return None


def _below(path: str, key: str) -> str:
    # A key of a stranger's is shown with its control characters made visible.
    shown = key if key.isprintable() else repr(key)
    return f"{path}.{shown}" if path else shown


def _wanted(shape: Shape) -> str:
    if isinstance(shape, Leaf):
        return shape.wanted
    return "a list" if isinstance(shape, Items) else "an object"


def whole(low: int, high: int) -> Leaf:
    """A whole number within bounds, both included; true and 2.0 are none."""
    return Leaf(
        f"a whole number from {low} to {high}",
        lambda value: type(value) is int and low <= value <= high,
    )


def number(low: float, high: float) -> Leaf:
    """A finite number within bounds, both included."""
    return Leaf(
        f"a number from {low:g} to {high:g}",
        lambda value: type(value) in (int, float) and math.isfinite(value) and low <= value <= high,
    )


def text(pattern: str, wanted: str, most: int = 256) -> Leaf:
    """A string of at most ``most`` characters that matches a pattern whole."""
    known = re.compile(pattern)
    return Leaf(
        wanted,
        lambda value: (
            isinstance(value, str) and len(value) <= most and bool(known.fullmatch(value))
        ),
    )


def one_of(*values: str) -> Leaf:
    """One of some strings."""
    return Leaf(
        "one of " + ", ".join(values), lambda value: isinstance(value, str) and value in values
    )


def either(first: Shape, second: Shape, wanted: str) -> Leaf:
    """A value of one shape or of the other."""
    return Leaf(
        wanted, lambda value: problem(value, first) is None or problem(value, second) is None
    )


def exactly(known: Mapping[str, Shape]) -> Keys:
    """An object of just these keys, all of which must be there."""
    return Keys(known, frozenset(known))


FLAG = Leaf("true or false", lambda value: isinstance(value, bool))
STRING = Leaf("a string", lambda value: isinstance(value, str))
NULL = Leaf("null", lambda value: value is None)
