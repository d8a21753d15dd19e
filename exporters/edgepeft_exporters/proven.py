"""What the architecture matrix of the tests saw of every family, kept beside the exporters that it is about."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from edgepeft.targets import ProvenModel

FILE = Path(__file__).with_name("proven.json")
"""Written by the matrix itself: ``EDGEPEFT_MATRIX=record pytest tests/architectures``."""


@cache
def proven(exporter: str) -> tuple[ProvenModel, ...]:
    """The families of an exporter, in the order in which it declares them."""
    recorded: dict[str, list[dict[str, Any]]] = json.loads(FILE.read_text(encoding="utf-8"))
    return tuple(
        ProvenModel(**{**one, "rotary": tuple(one["rotary"]), "runtimes": tuple(one["runtimes"])})
        for one in recorded[exporter]
    )
