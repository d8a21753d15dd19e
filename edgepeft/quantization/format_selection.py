"""Which grid each weight goes onto: as the recipe says, or as bytes or divergence allow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgepeft.calibration.data import Batch, job_calibration
from edgepeft.calibration.layer_stream import LayerStream
from edgepeft.checkpoints.skeleton import head_and_embedding_names, linear_weight_names
from edgepeft.checkpoints.source import TensorSource
from edgepeft.config.target_sections import Quantize
from edgepeft.errors import InputError
from edgepeft.quantization.grids import IntGrid
from edgepeft.quantization.mixed_precision import (
    Choice,
    candidate_grids,
    in_half_precision,
    predicted,
    report,
    smallest,
    spend,
)
from edgepeft.quantization.plan import BudgetEntry
from edgepeft.quantization.sensitivity import Unit, measure_sensitivities
from edgepeft.quantization.settings import QuantizeSettings
from edgepeft.stages.job import Job

SENSITIVITY_TOKENS = 1024
_GRAPH_BYTES = 200_000
_BYTES_A_WEIGHT = 11_500


@dataclass(frozen=True)
class Formats:
    """How each weight is kept: on a grid, in half precision, or (named in neither) as the target computes.

    ``why`` says of chosen formats what each unit takes and is expected to cost; None where the recipe said it.
    """

    grids: dict[str, IntGrid]
    half: tuple[str, ...] = ()
    why: tuple[BudgetEntry, ...] | None = None


def as_told(skeleton: Any, quantize: Quantize, bits: int) -> Formats:
    """Linear layers as the target says, the head as the recipe says."""
    body = IntGrid(bits, quantize.block_size, quantize.symmetric)
    chosen = dict.fromkeys(linear_weight_names(skeleton), body)
    if quantize.head != "float":
        head_bits = int(quantize.head.removeprefix("int"))
        head_grid = IntGrid(head_bits, quantize.head_blocks(bits), quantize.symmetric)
        chosen.update(dict.fromkeys(head_and_embedding_names(skeleton), head_grid))
    return Formats(chosen)


@dataclass(frozen=True)
class Menu:
    """What a budget chooses from: the ways to keep each unit (by its first weight), their bytes and costs.

    ``kinds`` of data are in the order of every choice's costs, ``shares`` of the calibration likewise;
    ``outside`` is what a bundle weighs besides.
    """

    units: list[Unit]
    kinds: list[str]
    shares: list[float]
    options: dict[str, list[Choice]]
    outside: int
    names: list[str]
    head: str
    embedding: str

    def price(self, choice: Choice) -> float:
        """Predicted nats per token of a choice, the kinds of data mixed as in the calibration."""
        return sum(share * cost for share, cost in zip(self.shares, choice.costs, strict=True))

    def formats(self, choices: Mapping[str, Choice]) -> Formats:
        """Choices by unit as formats by weight, in the order in which weights are written."""
        by_name = {
            name: choices[unit.names[0]].grid
            for unit in self.units
            if unit.names[0] in choices
            for name in unit.names
        }
        if self.head in by_name:
            by_name[self.embedding] = by_name[self.head]
        grids = {name: grid for name in self.names if (grid := by_name.get(name)) is not None}
        half = tuple(name for name, grid in by_name.items() if grid is None)
        kept = [unit for unit in self.units if unit.names[0] in choices]
        return Formats(grids, half, report(kept, choices, self.kinds))


def open_menu(job: Job[QuantizeSettings], weights: TensorSource, skeleton: Any) -> Menu:
    """Measure what each unit's rounding would cost. Raises InputError where there is nothing to measure on."""
    job.events.message("measuring how much each layer's rounding would cost")
    quantize = job.settings.quantize
    calibration = job_calibration(job, SENSITIVITY_TOKENS)
    spending = quantize.max_bytes is not None
    # Measured: bytes are spent better where every token is judged, prompts included, and all in one figure.
    batches = (
        {"all": [replace(batch, scored=batch.mask) for batch in calibration]}
        if spending
        else by_kind(calibration)
    )
    stream, seed = LayerStream(skeleton, weights), quantize.calibration.seed
    found = [measure_sensitivities(stream, part, weights, seed) for part in batches.values()]
    candidates = candidate_grids(quantize.symmetric)
    eight_bit = job.settings.eight_bit_inputs and not spending
    options: dict[str, list[Choice]] = {}
    head, embedding = head_and_embedding_names(skeleton)
    for unit in zip(*found, strict=True):
        name = unit[0].names[0]
        options[name] = predicted(unit, weights, candidates, eight_bit_inputs=eight_bit)
        if name != head and not spending:
            options[name].append(in_half_precision(unit, weights))
    linear = linear_weight_names(skeleton)
    if quantize.head == "float":
        del options[head]
    elif embedding != head:
        # The embedding goes onto the head's grid; what its rounding costs is not predicted.
        options[head] = [replace(one, nbytes=2 * one.nbytes) for one in options[head]]
    names = [*linear, *(dict.fromkeys((head, embedding)) if head in options else ())]
    tokens = [sum(batch.tokens for batch in part) for part in batches.values()]
    return Menu(
        units=found[0],
        kinds=list(batches),
        shares=[count / sum(tokens) for count in tokens],
        options=options,
        outside=_bytes_outside(job, weights, names),
        names=names,
        head=head,
        embedding=embedding,
    )


def by_kind(batches: Sequence[Batch]) -> dict[str, list[Batch]]:
    """Batches apart by the kind of their data; kinds without a judged token are left out."""
    parts: dict[str, list[Batch]] = {}
    for batch in batches:
        if bool(batch.scored.any()):
            parts.setdefault(batch.kind, []).append(batch)
    return parts


def within_bytes(menu: Menu, max_bytes: int) -> Formats:
    """The best formats for a bundle of so many bytes.

    Raises InputError naming the smallest reachable size where the budget is below it.
    """
    least = smallest(menu.options) + menu.outside
    if max_bytes < least:
        raise InputError(
            f"quantize.max_bytes: {max_bytes} is out of reach; the smallest bundle of this model is "
            f"about {least}"
        )
    return menu.formats(spend(menu.options, max_bytes - menu.outside, menu.price))


def _bytes_outside(
    job: Job[QuantizeSettings], weights: TensorSource, quantized: Sequence[str]
) -> int:
    """Bytes of a bundle that are no codes: tokenizer, configuration, graph, and weights kept in float32."""
    base = job.inputs["base"]
    files = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json")
    side = sum((base / name).stat().st_size for name in files if (base / name).is_file())
    inside = set(quantized)
    floats = sum(
        4 * math.prod(spec.shape) for name, spec in weights.specs.items() if name not in inside
    )
    # Measured on bundles: nodes of the graph, alignment of its tensors, report and card, and a little to spare.
    return side + floats + _GRAPH_BYTES + _BYTES_A_WEIGHT * len(inside)
