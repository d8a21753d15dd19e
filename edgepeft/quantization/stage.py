"""The quantize stage: every linear weight, the embedding and the head onto their grids, lazily."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from edgepeft.checkpoints.base import checkpoint_folder
from edgepeft.checkpoints.layers import LayerStream
from edgepeft.checkpoints.skeleton import (
    build_skeleton,
    head_and_embedding_names,
    linear_weight_names,
)
from edgepeft.checkpoints.source import TensorSpec
from edgepeft.merging.stage import open_weights
from edgepeft.quantization.algorithms import find_algorithm
from edgepeft.quantization.calibration import job_calibration
from edgepeft.quantization.choosing import choose_grids, grids_within
from edgepeft.quantization.codes import Parts, write_codes, write_plan
from edgepeft.quantization.grids import IntGrid, are_half
from edgepeft.quantization.rounding import round_each, round_in_sequence
from edgepeft.stage import Job

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
        entries[name] = {"shape": [rows, width], "grid": grid.as_dict()}
        for part, shape in grid.shapes(rows, width).items():
            specs[f"{name}.{part}"] = TensorSpec(shape, _PART_DTYPES[part])

    if algorithm.calibrated:
        batches = job_calibration(job, job.settings["quantize"]["calibration"]["tokens"])
        stream = LayerStream(skeleton, weights)
        units = round_in_sequence(stream, batches, weights, grids, algorithm)
    else:
        units = round_each(weights, grids, algorithm)

    def noted() -> Iterator[Parts]:
        for unit in units:
            for name, parts in unit.items():
                entries[name]["half_scales"] = are_half(parts["scales"])
            yield unit

    write_codes(job, specs, noted())
    head, embedding = head_and_embedding_names(skeleton)
    write_plan(
        job,
        {
            "algorithm": job.settings["quantize"]["algorithm"],
            "weights": entries,
            "head": head,
            "embedding": embedding,
            "budget": chosen,
        },
    )
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
