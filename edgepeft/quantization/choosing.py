"""Which grid each weight goes onto: as the recipe says, or as a number of bytes allows."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from edgepeft.checkpoints.layers import LayerStream
from edgepeft.checkpoints.skeleton import head_and_embedding_names, linear_weight_names
from edgepeft.checkpoints.source import TensorSource
from edgepeft.errors import InputError
from edgepeft.quantization.budget import candidate_grids, predicted, report, smallest, spend
from edgepeft.quantization.calibration import job_calibration
from edgepeft.quantization.grids import IntGrid
from edgepeft.quantization.sensitivity import measure_sensitivities
from edgepeft.stage import Job

SENSITIVITY_TOKENS = 1024
_GRAPH_BYTES = 200_000
_BYTES_A_WEIGHT = 11_500


def choose_grids(skeleton: Any, settings: Mapping[str, Any], bits: int) -> dict[str, IntGrid]:
    """The grid of every quantized weight: linear layers as the target says, the head as the recipe says."""
    block_size, symmetric = settings["block_size"], settings["symmetric"]
    body = IntGrid(bits, block_size, symmetric)
    chosen = dict.fromkeys(linear_weight_names(skeleton), body)
    if settings["head"] != "float":
        head_grid = IntGrid(int(settings["head"].removeprefix("int")), block_size, symmetric)
        chosen.update(dict.fromkeys(head_and_embedding_names(skeleton), head_grid))
    return chosen


def grids_within(
    job: Job, weights: TensorSource, skeleton: Any
) -> tuple[dict[str, IntGrid], list[dict[str, Any]]]:
    """The grid of every quantized weight under ``max_bytes``, and why: bytes and predicted cost of each unit.

    Raises InputError naming the smallest reachable size where the budget is below it.
    """
    job.events.message("measuring how much each layer's rounding would cost")
    settings = job.settings["quantize"]
    stream = LayerStream(skeleton, weights)
    units = measure_sensitivities(
        stream, job_calibration(job, SENSITIVITY_TOKENS), weights, settings["calibration"]["seed"]
    )
    candidates = candidate_grids(settings["symmetric"])
    options = {unit.names[0]: predicted(unit, weights, candidates) for unit in units}
    head, embedding = head_and_embedding_names(skeleton)
    linear = linear_weight_names(skeleton)
    if settings["head"] == "float":
        del options[head]
    elif embedding != head:
        # The embedding goes onto the head's grid; what its rounding costs is not predicted.
        options[head] = [replace(one, nbytes=2 * one.nbytes) for one in options[head]]
    outside = _bytes_outside(
        job, weights, {*linear, *([head, embedding] if head in options else [])}
    )
    budget, least = int(settings["max_bytes"]) - outside, smallest(options)
    if budget < least:
        raise InputError(
            f"quantize.max_bytes: {settings['max_bytes']} is out of reach; the smallest bundle of this model is "
            f"about {least + outside}"
        )
    choices = spend(options, budget)
    grids: dict[str, IntGrid] = {}
    for unit in units:
        if unit.names[0] in choices:
            grids.update(dict.fromkeys(unit.names, choices[unit.names[0]].grid))
    if head in grids:
        grids[embedding] = grids[head]
    ordered = [*linear, *dict.fromkeys((head, embedding))]
    kept = [unit for unit in units if unit.names[0] in choices]
    return {name: grids[name] for name in ordered if name in grids}, report(kept, choices)


def _bytes_outside(job: Job, weights: TensorSource, quantized: Collection[str]) -> int:
    """Bytes of a bundle that are no codes: tokenizer, configuration, graph, and weights kept in float32."""
    base = job.inputs["base"]
    files = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json")
    side = sum((base / name).stat().st_size for name in files if (base / name).is_file())
    floats = sum(
        4 * math.prod(spec.shape) for name, spec in weights.specs.items() if name not in quantized
    )
    # Measured on bundles: nodes of the graph, alignment of its tensors, report and card, and a little to spare.
    return side + floats + _GRAPH_BYTES + _BYTES_A_WEIGHT * len(quantized)
