"""Rounding algorithms behind one interface; each is one file here and one line in the registry.

Plug-ins register through the entry point group ``edgepeft.quantizers``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol

from edgepeft.errors import unknown_name

if TYPE_CHECKING:
    import torch

    from edgepeft.quantization.grids import BlockCodes, IntGrid


class Rounding(Protocol):
    """An algorithm that rounds one weight at a time."""

    asymmetric_only: bool
    """Whether the algorithm has no symmetric form."""

    def __call__(self, weight: torch.Tensor, grid: IntGrid) -> BlockCodes:
        """Round a finite float32 weight [N, K] to the grid."""
        ...


_BUILTIN = {
    "rtn": "edgepeft.quantization.algorithms.rtn:ROUNDING",
    "k_quant": "edgepeft.quantization.algorithms.k_quant:ROUNDING",
}


def algorithm_names() -> Mapping[str, str]:
    """Registered algorithms: name to import reference."""
    plugins = {point.name: point.value for point in entry_points(group="edgepeft.quantizers")}
    return {**_BUILTIN, **plugins}


def check_algorithm(name: str) -> None:
    """Raise InputError, listing the algorithms, unless ``name`` is one."""
    names = algorithm_names()
    if name not in names:
        raise unknown_name("quantize.algorithm", "algorithm", name, names)


def find_algorithm(name: str) -> Rounding:
    """Import an algorithm by name. Raises InputError."""
    check_algorithm(name)
    module, _, attribute = algorithm_names()[name].partition(":")
    rounding: Rounding = getattr(importlib.import_module(module), attribute)
    return rounding
