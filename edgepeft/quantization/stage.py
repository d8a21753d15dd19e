"""The quantize stage: every linear weight, the embedding and the head onto their grids, one tensor at a time.

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
from edgepeft.checkpoints.safetensors_io import SafetensorsSource, write_checkpoint
from edgepeft.checkpoints.skeleton import (
    build_skeleton,
    head_and_embedding_names,
    linear_weight_names,
)
from edgepeft.checkpoints.source import ComputedSource, TensorSpec
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.merging.stage import open_weights
from edgepeft.quantization.algorithms import Rounding, find_algorithm
from edgepeft.quantization.grids import IntGrid
from edgepeft.stage import Job

PLAN = "quantization.json"
CODES = "codes.safetensors"
_ELEMENTS_AT_ONCE = 1 << 22
_PART_DTYPES = {"codes": torch.uint8, "scales": torch.float32, "zero_points": torch.uint8}


def run(job: Job) -> dict[str, Any]:
    """Stage function. Settings: ``quantize`` and ``bits``. Inputs: as ``open_weights``.

    Result: how linear layers, head and embedding are kept, and the bytes of codes. Raises EdgepeftError where a
    weight is not finite.
    """
    weights = open_weights(job)
    skeleton = build_skeleton(checkpoint_folder(job.inputs["base"]))
    grids = choose_grids(skeleton, job.settings["quantize"], job.settings["bits"])
    algorithm = find_algorithm(job.settings["quantize"]["algorithm"])
    entries: dict[str, Any] = {}
    specs: dict[str, TensorSpec] = {}
    for name, grid in grids.items():
        rows, width = weights.specs[name].shape
        entries[name] = {"shape": [rows, width], "grid": grid.as_dict()}
        for part, shape in grid.shapes(rows, width).items():
            specs[f"{name}.{part}"] = TensorSpec(shape, _PART_DTYPES[part])

    finished: dict[str, torch.Tensor] = {}

    def compute(part_name: str) -> torch.Tensor:
        name = part_name.rpartition(".")[0]
        if part_name not in finished:
            # The writer asks for the parts of a weight one after the other; only that weight is kept.
            finished.clear()
            parts = round_weight(name, weights.load(name), grids[name], algorithm)
            finished.update({f"{name}.{key}": value for key, value in parts.items()})
        return finished[part_name]

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


def choose_grids(skeleton: Any, settings: Mapping[str, Any], bits: int) -> dict[str, IntGrid]:
    """The grid of every quantized weight: linear layers as the target says, the head as the recipe says."""
    block_size, symmetric = settings["block_size"], settings["symmetric"]
    body = IntGrid(bits, block_size, symmetric)
    chosen = dict.fromkeys(linear_weight_names(skeleton), body)
    if settings["head"] != "float":
        head_grid = IntGrid(int(settings["head"].removeprefix("int")), block_size, symmetric)
        chosen.update(dict.fromkeys(head_and_embedding_names(skeleton), head_grid))
    return chosen


def round_weight(
    name: str, weight: torch.Tensor, grid: IntGrid, algorithm: Rounding
) -> dict[str, torch.Tensor]:
    """Round one weight and pack it. Raises EdgepeftError naming a weight that is not finite."""
    if not torch.isfinite(weight).all():
        raise EdgepeftError(f"{name}: holds NaN or infinite values; the checkpoint is damaged")
    # Rows are independent of each other, so a few at a time bound the memory of the algorithm's temporaries.
    step = max(1, _ELEMENTS_AT_ONCE // weight.shape[1])
    chunks = [
        algorithm(weight[start : start + step].to(torch.float32), grid).packed()
        for start in range(0, weight.shape[0], step)
    ]
    return {part: torch.cat([chunk[part] for chunk in chunks]) for part in chunks[0]}


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
        wanted = [f"{name}.{part}" for part in _PART_DTYPES]
        return {
            key.rpartition(".")[2]: self.codes.load(key)
            for key in wanted
            if key in self.codes.specs
        }
