"""How far texts are alike, and whether values are the same as JSON."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any


def common_beginning(texts: Sequence[str]) -> str:
    """What all texts begin with; empty of none."""
    alike = itertools.takewhile(lambda each: len(set(each)) == 1, zip(*texts, strict=False))
    return "".join(each[0] for each in alike)


def same_json(ours: Any, theirs: Any) -> bool:
    """Whether two values are the same as JSON: 20 is 20.0, and true is not 1."""
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(
            same_json(ours[key], theirs[key]) for key in ours
        )
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same_json, ours, theirs))
    return bool(ours == theirs)
