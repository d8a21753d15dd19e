"""How a chat's answers are made: what the model is told first, and how its tokens are chosen."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

from edgepeft.config.loader import parse_value
from edgepeft.runtime.sampling_params import HELP, RANGES, OutOfRange, SamplingParams
from edgepeft.utils.terminal_text import shortened
from edgepeft_tui.fields import Field, shown

SYSTEM = Field(
    key="system",
    help="What the model is told before every conversation; at first that of its training. Empty: nothing.",
    literal=True,
)
"""The system message as a form shows it."""


@dataclass(frozen=True)
class AnswerOptions:
    """``system`` None is that of the training, empty is none. ``sampling`` are fields of SamplingParams."""

    system: str | None = None
    sampling: Mapping[str, float | int] = field(default_factory=lambda: MappingProxyType({}))

    def words(self) -> str:
        """What is not as it is by itself, for people; empty where everything is."""
        said = [f"{name.replace('_', ' ')} {shown(value)}" for name, value in self.sampling.items()]
        told = {None: [], "": ["no system message"]}.get(self.system, ["own system message"])
        return ", ".join([*told, *said])


@cache
def sampling_fields() -> Mapping[str, Field]:
    """The fields of SamplingParams that a chat sets and are numbers, in the order of their declaration."""
    return {
        spec.name: Field(
            key=spec.name,
            help=HELP[spec.name],
            default=shown(spec.default),
            range=RANGES[spec.name],
            numeric=True,
        )
        for spec in dataclasses.fields(SamplingParams)
        if spec.name in RANGES and spec.name in HELP
    }


def read_number(name: str, text: str) -> float | int:
    """What was typed for a field of SamplingParams. Raises OutOfRange."""
    value = parse_value(text)
    whole = float not in _kinds()[name]
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
        kind = "a whole number" if whole else "a number"
        raise OutOfRange(name, f"must be {kind}, not {shortened(text)}")
    fields: dict[str, Any] = {name: value}
    SamplingParams(**fields)
    number: float | int = value
    return number


@cache
def _kinds() -> Mapping[str, tuple[Any, ...]]:
    hints = typing.get_type_hints(SamplingParams)
    return {name: typing.get_args(hint) or (hint,) for name, hint in hints.items()}
