"""Rounding a model's weights: one at a time, or layer by layer with calibration data running through.

Both are generators of packed parts, a weight or a layer at a time, in the order in which they are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from edgepeft.calibration.data import Batch
from edgepeft.calibration.layer_stream import LayerStream
from edgepeft.calibration.statistics import InputStatistics, InputWatcher
from edgepeft.checkpoints.source import TensorSource
from edgepeft.errors import EdgepeftError
from edgepeft.quantization.algorithms import Rounding
from edgepeft.quantization.grids import IntGrid, unpack_weight
from edgepeft.quantization.learning import Learner
from edgepeft.quantization.packed_weights import Parts
from edgepeft.quantization.smoothing import SAMPLED_TOKENS, Smoothing
from edgepeft.utils.finite import all_finite

ELEMENTS_AT_ONCE = 1 << 22
"""Elements of a weight that are rounded at a time, in whole rows."""


def round_weight(
    name: str,
    weight: torch.Tensor,
    grid: IntGrid,
    algorithm: Rounding,
    statistics: InputStatistics | None = None,
) -> dict[str, torch.Tensor]:
    """Round one weight and pack it. Raises EdgepeftError."""
    check_finite(name, weight)
    # Rows are independent of each other, so a few at a time bound the memory of the algorithm's temporaries.
    step = max(1, ELEMENTS_AT_ONCE // weight.shape[1])
    chunks = [
        algorithm(weight[start : start + step].to(torch.float32), grid, statistics).packed()
        for start in range(0, weight.shape[0], step)
    ]
    return {part: torch.cat([chunk[part] for chunk in chunks]) for part in chunks[0]}


def check_finite(name: str, weight: torch.Tensor) -> None:
    """Raise EdgepeftError naming a weight that is not finite."""
    if not all_finite(weight):
        raise EdgepeftError(f"{name}: holds NaN or infinite values; the checkpoint is damaged")


def round_each(
    weights: TensorSource, grids: Mapping[str, IntGrid], algorithm: Rounding
) -> Iterator[Parts]:
    """Round weights on their own, in the order of ``grids``."""
    for name, grid in grids.items():
        yield {name: round_weight(name, weights.load(name), grid, algorithm)}


def round_in_sequence(
    stream: LayerStream,
    batches: Sequence[Batch],
    weights: TensorSource,
    grids: Mapping[str, IntGrid],
    algorithm: Rounding,
    errors: list[float] | None = None,
    smoothing: Smoothing | None = None,
    learner: Learner | None = None,
) -> Iterator[Parts]:
    """Round layer by layer, each on the activations that the rounded layers before it yield.

    ``errors`` takes each layer's mean ``layer_error``; ``smoothing`` has its turn before a layer is rounded,
    ``learner`` after.
    Memory is that of one layer, its inputs' second moments and the activations of one layer's boundaries. What
    lies outside the layers comes last: the head on the final hidden states, anything else on its own.
    """
    with torch.no_grad():
        inputs = [stream.begin(batch.ids, batch.mask) for batch in batches]
        left = dict(grids)
        tokens = sum(batch.tokens for batch in batches)
        every = 0 if smoothing is None else max(1, tokens // SAMPLED_TOKENS)
        for index in range(len(stream)):
            with stream.layer(index):
                linear = stream.linear(index)
                modules = {name: module for name, module in linear.items() if name in left}
                statistics, exact = _collect(
                    stream, index, modules, batches, inputs, algorithm.calibrated, every
                )
                if smoothing is not None:
                    statistics = _smoothed(smoothing, index, statistics)
                if learner is not None:
                    learner.watch(index)
                parts = _round_layer(modules, left, statistics, algorithm)
                if learner is not None:
                    learner.learn(index, parts, modules, grids, inputs)
                measured = []
                for batch, batch_inputs, wanted in zip(batches, inputs, exact, strict=True):
                    before, batch_inputs.hidden = (
                        batch_inputs.hidden,
                        stream.run(index, batch_inputs),
                    )
                    error = layer_error(before, wanted, batch_inputs.hidden)
                    measured.append(error[batch.mask])
            if errors is not None:
                errors.append(float(torch.cat(measured).mean()))
            yield parts
        head = stream.head_weight_name
        if stream.has_head and head in left:
            final = InputStatistics(inputs[0].hidden.shape[-1], moments=algorithm.calibrated)
            with stream.norm() as norm:
                for batch, batch_inputs in zip(batches, inputs, strict=True):
                    final.add(norm(batch_inputs.hidden)[batch.mask])
            yield {head: round_weight(head, weights.load(head), left.pop(head), algorithm, final)}
    yield from round_each(weights, left, algorithm)


def layer_error(before: torch.Tensor, wanted: torch.Tensor, got: torch.Tensor) -> torch.Tensor:
    """How far a rounded layer is off, float32 [B, T]: as a share of what the exact layer adds to its input.

    All are hidden states float32 [B, T, H]. Each token counts for itself, because a few have norms a hundred
    times those of the others.
    """
    added = (wanted - before).norm(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
    return (got - wanted).norm(dim=-1) / added


def _round_layer(
    modules: Mapping[str, Any],
    left: dict[str, IntGrid],
    statistics: Mapping[str, InputStatistics],
    algorithm: Rounding,
) -> Parts:
    """Round a layer's weights and put the rounded ones in their place; ``left`` loses their names.

    Weights that read the same input on the same grid are rounded as one, which is the same and quicker.
    """
    groups: dict[tuple[int, IntGrid], list[str]] = {}
    for name in modules:
        groups.setdefault((id(statistics[name]), left[name]), []).append(name)
    parts: Parts = {}
    for (_, grid), names in groups.items():
        rows = [modules[name].weight.shape[0] for name in names]
        for name in names:
            check_finite(name, modules[name].weight)
        whole = torch.cat([modules[name].weight for name in names])
        rounded = round_weight(names[0], whole, grid, algorithm, statistics[names[0]])
        split = {part: value.split(rows) for part, value in rounded.items()}
        for index, name in enumerate(names):
            parts[name] = {part: values[index] for part, values in split.items()}
            width = modules[name].weight.shape[1]
            modules[name].weight.data = unpack_weight(grid, width, parts[name]).dequantize()
            del left[name]
    return parts


def _smoothed(
    smoothing: Smoothing, index: int, statistics: Mapping[str, InputStatistics]
) -> dict[str, InputStatistics]:
    """Smooth a filled layer; the statistics of its weights' inputs afterwards, shared as they were."""
    scales = smoothing.smooth(index, {name: one.sample for name, one in statistics.items()})
    made: dict[int, InputStatistics] = {}
    found: dict[str, InputStatistics] = {}
    for name, one in statistics.items():
        if name in scales and id(one) not in made:
            made[id(one)] = one.divided(scales[name])
        found[name] = made.get(id(one), one)
    return found


def _collect(
    stream: LayerStream,
    index: int,
    modules: Mapping[str, Any],
    batches: Sequence[Batch],
    inputs: Sequence[Any],
    moments: bool,
    sample_every: int,
) -> tuple[dict[str, InputStatistics], list[torch.Tensor]]:
    """Statistics of the inputs of a layer's weights, and the layer's outputs float32 [B, T, H] batch by batch.

    Weights that read the same input share one.
    """
    watcher = InputWatcher(modules, moments=moments, sample_every=sample_every)
    outputs = []
    with watcher.watching():
        for batch, batch_inputs in zip(batches, inputs, strict=True):
            watcher.begin(batch.mask)
            outputs.append(stream.run(index, batch_inputs))
    absent = sorted(set(modules) - set(watcher.found))
    if absent:
        raise EdgepeftError(f"{absent[0]}: its layer does not use it; it can't be calibrated")
    return watcher.found, outputs
