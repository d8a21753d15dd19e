"""An adapter's file as inputs of a graph, for whoever feeds them by himself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgepeft.errors import one_line

if TYPE_CHECKING:
    import onnxruntime as ort

Factors = Mapping[str, "ort.OrtValue"]
"""An adapter's inputs by name: A float32 [1, width, R] and B float32 [1, R, count]; empty for the base."""


@dataclass(frozen=True)
class FactorFile:
    """A file that was read, or none; ``inputs`` are views of it, and don't keep it by themselves."""

    inputs: Factors = field(default_factory=dict)
    file: object = None


def read_factors(path: Path) -> FactorFile:
    """Read an adapter's file. Raises RuntimeError, in one line, where onnxruntime can't."""
    from onnxruntime import AdapterFormat

    try:
        file = AdapterFormat.read_adapter(str(path))
        return FactorFile(file.get_parameters(), file)
    except Exception as error:  # onnxruntime's own exceptions share no base but this
        raise RuntimeError(one_line(error)) from error
