"""Rounding algorithms behind one interface; each is one file here and one line in the registry.

Plug-ins register through the entry point group ``edgepeft.quantizers``.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol

from edgepeft.errors import unknown_name

if TYPE_CHECKING:
    import torch

    from edgepeft.calibration.statistics import InputStatistics
    from edgepeft.quantization.grids import BlockCodes, IntGrid


class Rounding(Protocol):
    """An algorithm that rounds one weight at a time."""

    asymmetric_only: bool
    """Whether the algorithm has no symmetric form."""

    calibrated: bool
    """Whether the algorithm wants to know what the weight is multiplied with."""

    def __call__(
        self, weight: torch.Tensor, grid: IntGrid, statistics: InputStatistics | None = None
    ) -> BlockCodes:
        """Round a finite float32 weight [N, K] to the grid."""
        ...


AUTO = "auto"


_BUILTIN = {
    "gptq": "edgepeft.quantization.algorithms.gptq:ROUNDING",
    "rtn": "edgepeft.quantization.algorithms.rtn:ROUNDING",
    "k_quant": "edgepeft.quantization.algorithms.k_quant:ROUNDING",
}


_CALIBRATED = frozenset({"gptq"})
"""Built-in algorithms that look at calibration data, known without importing them."""


def algorithm_names() -> Mapping[str, str]:
    """Registered algorithms: name to import reference."""
    plugins = {point.name: point.value for point in entry_points(group="edgepeft.quantizers")}
    return {**_BUILTIN, **plugins}


def check_algorithm(name: str) -> None:
    """Raise InputError, listing the algorithms, unless ``name`` is one or ``auto``."""
    names = algorithm_names()
    if name != AUTO and name not in names:
        raise unknown_name("quantize.algorithm", "algorithm", name, names)


def resolve_algorithm(name: str, bits: int) -> str:
    """What ``auto`` means: calibration where it pays, which at 8 bits it does not."""
    if name != AUTO:
        return name
    return "gptq" if bits == 4 else "rtn"


def is_calibrated(name: str) -> bool:
    """Whether an algorithm looks at calibration data."""
    return name in _CALIBRATED or (name not in _BUILTIN and find_algorithm(name).calibrated)


def find_algorithm(name: str) -> Rounding:
    """Import an algorithm by name. Raises InputError."""
    check_algorithm(name)
    rounding: Rounding = pkgutil.resolve_name(algorithm_names()[name])
    return rounding
