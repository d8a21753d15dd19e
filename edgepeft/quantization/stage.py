"""The quantize stage: every linear weight, the embedding and the head onto their grids, lazily.

The output is ``codes.safetensors`` (packed parts named ``<weight>.codes``, ``.scales``, ``.zero_points``) and
``quantization.json``, which says for each quantized weight its grid and shape, and how head and embedding are
kept. Weights that stay as they are are not copied; the exporter reads them where they lie.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgepeft.checkpoints.base import checkpoint_folder
from edgepeft.checkpoints.layers import LayerStream
from edgepeft.checkpoints.safetensors_io import SafetensorsSource, write_checkpoint
from edgepeft.checkpoints.skeleton import (
    build_skeleton,
    head_and_embedding_names,
    linear_weight_names,
)
from edgepeft.checkpoints.source import ComputedSource, TensorSpec
from edgepeft.errors import InputError
from edgepeft.merging.stage import open_weights
from edgepeft.quantization.algorithms import find_algorithm
from edgepeft.quantization.calibration import job_calibration
from edgepeft.quantization.choosing import choose_grids, grids_within
from edgepeft.quantization.grids import IntGrid, are_half
from edgepeft.quantization.rounding import round_each, round_in_sequence
from edgepeft.stage import Job

PLAN = "quantization.json"
CODES = "codes.safetensors"
_LOSSLESS_PARTS = ("absmax", "lora_a", "lora_b")
_PART_DTYPES = {"codes": torch.uint8, "scales": torch.float32, "zero_points": torch.uint8}


def run(job: Job) -> dict[str, Any]:
    """Stage function. Settings: ``quantize``, ``bits`` and, for calibration, ``data``.

    Inputs: as ``open_weights``; ``calibration_rows`` and ``calibration_text`` if there are any.

    Result: how linear layers, head and embedding are kept, and the bytes of codes. Raises EdgepeftError where a
    weight is not finite.
    """
    weights = open_weights(job)
    skeleton = build_skeleton(checkpoint_folder(job.inputs["base"]))
    algorithm = find_algorithm(job.settings["quantize"]["algorithm"])
    chosen: list[dict[str, Any]] | None = None
    if job.settings["quantize"].get("max_bytes"):
        grids, chosen = grids_within(job, weights, skeleton)
    else:
        grids = choose_grids(skeleton, job.settings["quantize"], job.settings["bits"])
    entries: dict[str, Any] = {}
    specs: dict[str, TensorSpec] = {}
    for name, grid in grids.items():
        rows, width = weights.specs[name].shape
        entries[name] = {"shape": [rows, width], "grid": grid.as_dict(), "half_scales": False}
        for part, shape in grid.shapes(rows, width).items():
            specs[f"{name}.{part}"] = TensorSpec(shape, _PART_DTYPES[part])

    if algorithm.calibrated:
        batches = job_calibration(job, job.settings["quantize"]["calibration"]["tokens"])
        stream = LayerStream(checkpoint_folder(job.inputs["base"]), weights)
        units = round_in_sequence(stream, batches, weights, grids, algorithm)
    else:
        units = round_each(weights, grids, algorithm)
    finished: dict[str, torch.Tensor] = {}

    def compute(part_name: str) -> torch.Tensor:
        # The writer asks for the parts in the order in which they are made, and for each once.
        while part_name not in finished:
            finished.clear()
            for name, parts in next(units).items():
                entries[name]["half_scales"] = are_half(parts["scales"])
                finished.update({f"{name}.{key}": value for key, value in parts.items()})
        return finished.pop(part_name)

    write_checkpoint(
        ComputedSource(specs, compute),
        job.out,
        events=job.events,
        stem=CODES.removesuffix(".safetensors"),
        shard_bytes=1 << 62,
    )
    head, embedding = head_and_embedding_names(skeleton)
    plan = {
        "algorithm": job.settings["quantize"]["algorithm"],
        "weights": entries,
        "head": head,
        "embedding": embedding,
        "budget": chosen,
    }
    (job.out / PLAN).write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")
    return {
        "algorithm": job.settings["quantize"]["algorithm"],
        "linear": describe(grids, linear_weight_names(skeleton)),
        "head": describe(grids, [head]),
        "embedding": describe(grids, [embedding]),
        "tied": head == embedding,
        "bytes": sum(spec.nbytes for spec in specs.values()),
    }


def describe(grids: Mapping[str, IntGrid], names: list[str]) -> str:
    """How a group of weights is kept, in a few words: ``int4 asymmetric, blocks of 32``."""
    kinds = sorted(
        {
            f"int{grid.bits} {'symmetric' if grid.symmetric else 'asymmetric'}, "
            f"blocks of {grid.block_size}"
            for grid in (grids.get(name) for name in names)
            if grid is not None
        }
    )
    return " / ".join(kinds) if kinds else "float"


@dataclass(frozen=True)
class QuantizedWeights:
    """A finished quantize stage, opened for the exporter."""

    plan: Mapping[str, Any]
    codes: SafetensorsSource

    @classmethod
    def open(cls, folder: Path) -> QuantizedWeights:
        """Open the stage's folder. Raises InputError."""
        try:
            plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{folder / PLAN}: not readable ({error})") from None
        return cls(plan, SafetensorsSource.from_file(folder / CODES))

    def grid(self, name: str) -> IntGrid | None:
        """The grid of a weight, or None where it was left as it is."""
        entry = self.plan["weights"].get(name)
        return None if entry is None else IntGrid.from_dict(entry["grid"])

    def parts(self, name: str) -> dict[str, torch.Tensor]:
        """The packed parts of a quantized weight."""
        wanted = [f"{name}.{part}" for part in (*_PART_DTYPES, *_LOSSLESS_PARTS)]
        return {
            key.rpartition(".")[2]: self.codes.load(key)
            for key in wanted
            if key in self.codes.specs
        }
