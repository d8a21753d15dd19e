"""The quantize stage: weights on the grids of targets; targets that round alike share one stage."""

from __future__ import annotations

from collections.abc import Iterator

from edgepeft.config.sections import Data
from edgepeft.config.target_sections import Calibration
from edgepeft.merging.settings import AdapterSettings
from edgepeft.models import ModelInfo
from edgepeft.models.tasks import GENERATION
from edgepeft.pipeline.costs import LIBRARIES_BYTES, START, largest_bytes, lazy_memory, lazy_seconds
from edgepeft.pipeline.inputs import Inputs, at_default
from edgepeft.pipeline.kinds.spec import PlannedStage, StageSpec
from edgepeft.pipeline.resolved import ResolvedRecipe, ResolvedTarget
from edgepeft.pipeline.sizes import bundle_bytes
from edgepeft.quantization.settings import QuantizeSettings
from edgepeft.stages.needs import MODEL

LOSSLESS = "lossless"
"""The form of targets that carry the codes of training as they are."""

_STEP_TOKENS = 384
"""Tokens that a step of learning scales looks at."""

_SMOOTHING_TOKENS = 512
"""Calibration tokens where nothing but smoothing looks at them."""


def _plan(resolved: ResolvedRecipe, read: Inputs) -> Iterator[PlannedStage]:
    lossless = {
        resolved.quantize_stage(target): target.swaps
        for target in resolved.targets
        if target.profile.precision == "nf4"
    }
    for name, swapped in sorted(lossless.items()):
        weights = read.base_alone() if swapped else read.adapted
        settings = AdapterSettings(merge=weights.merge, frozen=weights.frozen)
        yield PlannedStage(name, settings, weights.inputs, weights.files, form=LOSSLESS)
    rounded = {
        resolved.quantize_stage(target): target
        for target in resolved.targets
        if target.profile.bits
    }
    for name, target in sorted(rounded.items()):
        yield _rounded(resolved, read, name, target)


def _rounded(
    resolved: ResolvedRecipe, read: Inputs, name: str, target: ResolvedTarget
) -> PlannedStage:
    grid = target.grid
    weights, bits = read.weights(target), target.profile.bits or 0
    task, data, calibration, files = GENERATION, Data(), Calibration(), weights.files
    if target.calibrates():
        task, data = resolved.task, read.data("max_length", "max_test_rows")
        calibration = at_default(grid.calibration, "text")
        files = {**files, **read.template()}
        if resolved.recipe.data.train is not None:
            files["calibration_rows"] = read.file(resolved.recipe.data.train)
        if grid.calibration.text is not None:
            files["calibration_text"] = read.file(grid.calibration.text)
    judged = grid.budget is not None or target.smooths
    settings = QuantizeSettings(
        merge=weights.merge,
        frozen=weights.frozen,
        task=task,
        quantize=at_default(grid, "accuracy_level").model_copy(
            update={
                "algorithm": target.algorithm,
                "head_block_size": grid.head_blocks(bits),
                "smooth": target.smooths,
                "calibration": calibration,
            }
        ),
        bits=bits,
        eight_bit_inputs=judged and _rounds_inputs(resolved, name),
        data=data,
    )
    return PlannedStage(name, settings, weights.inputs, files)


def _rounds_inputs(resolved: ResolvedRecipe, name: str) -> bool:
    """Whether products of a target of this stage round what they are multiplied with."""
    return any(
        target.accuracy_level == 4
        for target in resolved.targets
        if target.profile.bits and resolved.quantize_stage(target) == name
    )


def _calibrates(resolved: ResolvedRecipe) -> bool:
    return any(target.calibrates() for target in resolved.targets)


def _calibration_tokens(resolved: ResolvedRecipe) -> int:
    """Tokens that calibration takes; smoothing alone takes fewer than rounding."""
    tokens = resolved.recipe.quantize.calibration.tokens
    others = any(target.calibrates(smoothing=False) for target in resolved.targets)
    return tokens if others else min(tokens, _SMOOTHING_TOKENS)


def _body(model: ModelInfo) -> int:
    return model.parameters - model.embedding_parameters


def _memory(resolved: ResolvedRecipe) -> float:
    if not _calibrates(resolved):
        return lazy_memory(resolved)
    model, tokens = resolved.model, _calibration_tokens(resolved)
    # One layer, the second moments of its widest input with their inverse, and activations of its boundary.
    layer = 12.0 * _body(model) / max(1, model.layers) + 20.0 * model.intermediate_size**2
    activations = 12.0 * tokens * model.intermediate_size
    return LIBRARIES_BYTES * 0.7 + layer + activations + 2 * largest_bytes(model)


def _disk(resolved: ResolvedRecipe, name: str) -> float:
    return max(
        bundle_bytes(resolved, target)
        for target in resolved.targets
        if resolved.quantize_stage(target) == name
    )


def _seconds(resolved: ResolvedRecipe, flops: float) -> float:
    if not _calibrates(resolved):
        return lazy_seconds(resolved, flops)
    quantize, body = resolved.recipe.quantize, _body(resolved.model)
    # Two passes and the second moments, about six operations a weight and token; rounding itself besides.
    calibration = _calibration_tokens(resolved) * body * 6 / (0.5 * flops) + body * 1e-7
    # A step of learning is a forward and a backward pass through every layer over a few hundred tokens.
    calibration += quantize.learn_steps * _STEP_TOKENS * body * 6 / (0.5 * flops)
    if quantize.budget is None:
        return START + calibration
    # Sensitivity is a forward and a backward pass over a thousand tokens, and five grids to try.
    budget = 1024 * body * 6 / (0.5 * flops) + body * 1e-7
    # Bounds on divergence take two attempts as a rule, each judged in a forward pass over held-out tokens.
    attempts = 1 if quantize.max_bytes is not None else 2
    judging = (attempts + 1) * 2048 * body * 2 / (0.5 * flops) * (attempts > 1)
    return START + attempts * calibration + budget + judging


QUANTIZE = StageSpec(
    kind="quantize",
    version=9,
    settings=QuantizeSettings,
    functions={
        "": "edgepeft.quantization.stage:run",
        LOSSLESS: "edgepeft.quantization.lossless:run",
    },
    needs={"export": MODEL},
    plan=_plan,
    memory=_memory,
    disk=_disk,
    seconds=_seconds,
)
