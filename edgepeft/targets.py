"""Device profiles and the exporters that serve them; both are entry points, so that plug-ins can add to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal, Protocol

from edgepeft.errors import MissingError, unknown_name
from edgepeft.models import ModelInfo

Precision = Literal["int4", "int8", "nf4", "fp16", "fp32"]


@dataclass(frozen=True)
class TargetProfile:
    """A device to build for.

    ``precision`` is how linear weights are kept; ``io_dtype`` is what activations and logits are. ``provider``
    is the execution provider the bundle is meant for, ``verify_provider`` the one that verification runs the
    graph on here. ``accuracy_level`` is the default for integer products; ``block_sizes`` are those the
    provider's kernels take. ``file_stem`` names the graph.
    """

    name: str
    summary: str
    provider: str
    builder_provider: str
    precision: Precision
    io_dtype: Literal["fp32", "fp16"]
    file_stem: str
    accuracy_level: int = 0
    block_sizes: tuple[int, ...] = (16, 32, 64, 128)
    verify_provider: str = "CPUExecutionProvider"
    exporter: str = "decoder"

    @property
    def bits(self) -> int | None:
        """Bits of an integer weight, or None for a floating-point target."""
        return {"int4": 4, "int8": 8}.get(self.precision)

    @property
    def quantized(self) -> bool:
        """Whether a quantize stage prepares this target's weights."""
        return self.bits is not None or self.precision == "nf4"

    def as_dict(self) -> dict[str, Any]:
        """JSON form, as it enters the export stage's settings and `edgepeft targets --json`."""
        return {**asdict(self), "block_sizes": list(self.block_sizes)}


class Exporter(Protocol):
    """What the core needs to know of an exporter; its work is a stage function imported where it runs."""

    name: str
    stage: str

    def refuses(self, model: ModelInfo) -> str | None:
        """Why this model can't be exported, in one line, or None if it can."""
        ...


@cache
def all_targets() -> Mapping[str, TargetProfile]:
    """Every registered target by name. Raises MissingError where the exporters aren't installed."""
    found: dict[str, TargetProfile] = {}
    for point in entry_points(group="edgepeft.targets"):
        for profile in point.load():
            found[profile.name] = profile
    if not found:
        raise MissingError("no targets are registered: reinstall edgepeft (pip install edgepeft)")
    return found


def find_target(name: str) -> TargetProfile:
    """A target by name. Raises InputError that lists the targets there are."""
    targets = all_targets()
    if name not in targets:
        raise unknown_name("targets", "target", name, targets)
    return targets[name]


@cache
def find_exporter(name: str) -> Exporter:
    """An exporter by name. Raises MissingError."""
    for point in entry_points(group="edgepeft.exporters", name=name):
        exporter: Exporter = point.load()
        return exporter
    raise MissingError(f"the exporter {name} is not registered: reinstall edgepeft")
