"""The quantize stage: every linear weight, the embedding and the head onto their grids, lazily."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from edgepeft.calibration.data import ROWS_AT_ONCE, job_calibration
from edgepeft.calibration.layer_stream import LayerStream
from edgepeft.calibration.unmerged import carry
from edgepeft.checkpoints.base import checkpoint_folder
from edgepeft.checkpoints.skeleton import (
    build_skeleton,
    head_and_embedding_names,
    is_encoder,
    linear_weight_names,
)
from edgepeft.checkpoints.source import TensorSource, TensorSpec
from edgepeft.merging.stage import open_unmerged, open_weights
from edgepeft.quantization.algorithms import find_algorithm
from edgepeft.quantization.format_selection import Formats, as_told, open_menu, within_bytes
from edgepeft.quantization.grids import IntGrid, are_half
from edgepeft.quantization.kl_target import round_within
from edgepeft.quantization.learning import ROWS_AT_ONCE as LEARNED_AT_ONCE
from edgepeft.quantization.learning import Learner
from edgepeft.quantization.packed_weights import (
    CODES,
    Parts,
    QuantizedWeights,
    write_codes,
    write_folded,
    write_plan,
)
from edgepeft.quantization.plan import QuantizationPlan, RoundedWeight
from edgepeft.quantization.rounding import round_each, round_in_sequence
from edgepeft.quantization.settings import QuantizeResult, QuantizeSettings
from edgepeft.quantization.smoothing import TOKENS, Smoothing
from edgepeft.stages.job import Job

_IN_LAYER = re.compile(r"\.\d+\.")
_PART_DTYPES = {"codes": torch.uint8, "scales": torch.float32, "zero_points": torch.uint8}


def run(job: Job[QuantizeSettings]) -> QuantizeResult:
    """Stage function. Inputs: as ``open_weights``; ``calibration_rows`` and ``calibration_text``, if any.

    Raises InputError for a budget out of reach, EdgepeftError where a weight is not finite.
    """
    weights = open_weights(job)
    skeleton = build_skeleton(checkpoint_folder(job.inputs["base"]), weights.specs)
    carry(skeleton, open_unmerged(job))
    settings = job.settings.quantize
    divergence: dict[str, float] | None = None
    if settings.max_bytes is not None:
        formats = within_bytes(open_menu(job, weights, skeleton), settings.max_bytes)
        _round_into(job.out, job, weights, skeleton, formats)
    elif settings.budget is not None:
        best = round_within(
            job,
            weights,
            skeleton,
            lambda folder, formats: _round_into(folder, job, weights, skeleton, formats),
        )
        formats, divergence = best.formats, best.divergence
        for file in sorted(best.folder.iterdir()):
            shutil.move(file, job.out / file.name)
    else:
        formats = as_told(skeleton, settings, job.settings.bits)
        _round_into(job.out, job, weights, skeleton, formats)
    head, embedding = head_and_embedding_names(skeleton)
    encodes = is_encoder(skeleton.config)
    sizes = {name: torch.Size(spec.shape).numel() for name, spec in weights.specs.items()}
    return QuantizeResult(
        algorithm=settings.algorithm,
        linear=describe(formats, {name: sizes[name] for name in linear_weight_names(skeleton)}),
        # A classifier's head is small and decides, so it stays as it is; its logits are few.
        head="float" if encodes else describe(formats, {head: sizes[head]}),
        embedding=describe(formats, {embedding: sizes[embedding]}),
        tied=not encodes and head == embedding,
        bytes=(job.out / CODES).stat().st_size,
        divergence=divergence,
        layer_errors=QuantizedWeights.open(job.out).plan.layer_errors,
    )


def _round_into(
    folder: Path, job: Job[QuantizeSettings], weights: TensorSource, skeleton: Any, formats: Formats
) -> None:
    """Round weights onto their formats and leave codes and plan in a folder."""
    settings = job.settings.quantize
    # What lies beside the weights was made for the channels as they are.
    smooths = bool(settings.smooth) and open_unmerged(job) is None
    steps = settings.learn_steps
    smoothing: Smoothing | None = None
    algorithm = find_algorithm(settings.algorithm)
    half_scales: dict[str, bool] = {}
    shapes: dict[str, tuple[int, int]] = {}
    errors: list[float] = []
    specs: dict[str, TensorSpec] = {}
    grids = _in_order(formats.grids, skeleton)
    for name, grid in grids.items():
        rows, width = weights.specs[name].shape
        shapes[name] = (rows, width)
        for part, shape in grid.shapes(rows, width).items():
            specs[f"{name}.{part}"] = TensorSpec(shape, _PART_DTYPES[part])
    if algorithm.calibrated or smooths or steps:
        tokens = settings.calibration.tokens if algorithm.calibrated or steps else TOKENS
        together = LEARNED_AT_ONCE if steps else ROWS_AT_ONCE
        batches = job_calibration(job, tokens, rows_at_once=together)
        stream = LayerStream(skeleton, weights)
        if smooths:
            smoothing = Smoothing(
                stream, batches, grids, eight_bit_inputs=job.settings.eight_bit_inputs
            )
        learner = Learner(stream, batches, steps) if steps else None
        units = round_in_sequence(
            stream, batches, weights, grids, algorithm, errors, smoothing, learner
        )
    else:
        units = round_each(weights, grids, algorithm)

    def noted() -> Iterator[Parts]:
        for unit in units:
            for name, parts in unit.items():
                half_scales[name] = are_half(parts["scales"])
            yield unit

    write_codes(folder, job.events, specs, noted())
    if smoothing is not None:
        write_folded(folder, smoothing.folded)
        job.events.message(f"smoothed the inputs of {smoothing.places} products")
    head, embedding = head_and_embedding_names(skeleton)
    plan = QuantizationPlan(
        algorithm=settings.algorithm,
        weights={
            name: RoundedWeight(
                shape=(weights.specs[name].shape[0], weights.specs[name].shape[1]),
                grid=grid,
                half_scales=half_scales[name],
            )
            for name, grid in formats.grids.items()
        },
        half=formats.half,
        head=head,
        embedding=embedding,
        budget=formats.why,
        layer_errors=tuple(errors) or None,
        smoothed=0 if smoothing is None else smoothing.places,
    )
    write_plan(folder, plan)


def _in_order(grids: Mapping[str, IntGrid], skeleton: Any) -> dict[str, IntGrid]:
    """The grids in the order in which weights are rounded: those of layers first, of what lies beside them last.

    ELECTRA's embeddings, for one, are projected by a linear layer before the first of them.
    """
    tables = head_and_embedding_names(skeleton)

    def place(name: str) -> int:
        return 2 if name in tables else int(not _IN_LAYER.search(name))

    return {name: grids[name] for name in sorted(grids, key=place)}


def describe(formats: Formats, sizes: Mapping[str, int]) -> str:
    """How weights of these sizes are kept, in a few words: ``int4 asymmetric, blocks of 32``.

    Where it differs, the share of the weights follows each way.
    """
    kinds: Counter[str] = Counter()
    for name, size in sizes.items():
        grid = formats.grids.get(name)
        if grid is None:
            kinds["half precision" if name in formats.half else "float"] += size
        else:
            symmetry = "symmetric" if grid.symmetric else "asymmetric"
            kinds[f"int{grid.bits} {symmetry}, blocks of {grid.block_size}"] += size
    if len(kinds) == 1:
        return next(iter(kinds))
    whole = sum(kinds.values())
    return " / ".join(f"{kind} ({size / whole:.0%})" for kind, size in sorted(kinds.items()))
