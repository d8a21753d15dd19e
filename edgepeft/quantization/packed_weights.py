"""What a quantize stage leaves behind: packed parts of weights, and a plan that says what they are.

The parts lie in ``codes.safetensors`` under ``<weight>.<part>``; ``quantization.json`` holds grid and shape of
each quantized weight, how head and embedding are kept, and which of the other weights a bundle keeps in half
precision (``half``). Weights that stay as they are are not copied; the exporter reads them where they lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from edgepeft.checkpoints.safetensors_io import SafetensorsSource, write_checkpoint
from edgepeft.checkpoints.source import ComputedSource, TensorSource, TensorSpec
from edgepeft.errors import InputError, one_line
from edgepeft.events import Events
from edgepeft.quantization.grids import IntGrid
from edgepeft.quantization.plan import QuantizationPlan

PLAN = "quantization.json"
CODES = "codes.safetensors"
FOLDED = "folded.safetensors"
Parts = dict[str, dict[str, torch.Tensor]]
"""Parts of weights, by the weight's name and the part's."""


def write_codes(
    folder: Path, events: Events, specs: Mapping[str, TensorSpec], units: Iterator[Parts]
) -> None:
    """Drain ``units``, which come in the order of ``specs``, into a folder, one in memory at a time."""
    finished: dict[str, torch.Tensor] = {}

    def compute(part_name: str) -> torch.Tensor:
        # The writer asks for the parts in the order in which they are made, and for each once.
        while part_name not in finished:
            finished.clear()
            for name, parts in next(units).items():
                finished.update({f"{name}.{part}": value for part, value in parts.items()})
        return finished.pop(part_name)

    write_checkpoint(
        ComputedSource(specs, compute),
        folder,
        events=events,
        stem=CODES.removesuffix(".safetensors"),
        shard_bytes=1 << 62,
    )


def write_folded(folder: Path, folded: Mapping[str, torch.Tensor]) -> None:
    """Write ``folded.safetensors`` beside the codes, if there is anything to write."""
    if not folded:
        return
    specs = {name: TensorSpec(tuple(value.shape), value.dtype) for name, value in folded.items()}
    source = ComputedSource(specs, folded.__getitem__)
    write_checkpoint(source, folder, stem=FOLDED.removesuffix(".safetensors"))


def write_plan(folder: Path, plan: QuantizationPlan) -> None:
    """Write ``quantization.json`` beside the codes."""
    (folder / PLAN).write_text(plan.model_dump_json(indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class QuantizedWeights:
    """A finished quantize stage, opened for the exporter."""

    plan: QuantizationPlan
    codes: SafetensorsSource
    folded: SafetensorsSource | None = None

    @classmethod
    def open(cls, folder: Path) -> QuantizedWeights:
        """Open the stage's folder. Raises InputError."""
        try:
            plan = QuantizationPlan.model_validate_json((folder / PLAN).read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(f"{folder / PLAN}: not readable ({one_line(error)})") from None
        folded = folder / FOLDED
        return cls(
            plan,
            SafetensorsSource.from_file(folder / CODES),
            SafetensorsSource.from_file(folded) if folded.is_file() else None,
        )

    def over(self, weights: TensorSource) -> TensorSource:
        """The weights that were rounded, with what smoothing changed of the others in its place, float32."""
        folded = self.folded
        if folded is None:
            return weights
        specs = {**weights.specs, **folded.specs}
        return ComputedSource(
            {name: specs[name] for name in weights.specs},
            lambda name: (folded if name in folded.specs else weights).load(name),
        )

    def grid(self, name: str) -> IntGrid | None:
        """The grid of a weight, or None where it was left as it is."""
        entry = self.plan.weights.get(name)
        return entry.grid if entry is not None and isinstance(entry.grid, IntGrid) else None

    def parts(self, name: str) -> dict[str, torch.Tensor]:
        """The packed parts of a quantized weight."""
        names = ("codes", "scales", "zero_points", "absmax", "lora_a", "lora_b")
        stored = [part for part in names if f"{name}.{part}" in self.codes.specs]
        return {part: self.codes.load(f"{name}.{part}") for part in stored}
