"""What each kind of stage takes, told from headers and recipe: memory, disk, seconds; one entry a kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgepeft.combination.methods import MOMENT_BYTES, REGMEAN
from edgepeft.data.rows import Row
from edgepeft.evaluation.witness.probes import limits_of, long_length
from edgepeft.models import ModelInfo
from edgepeft.models.tasks import GENERATION
from edgepeft.pipeline.plan import Plan
from edgepeft.pipeline.sizes import adapter_elements, bundle_bytes
from edgepeft.training.hosts import processes_here

_LIBRARIES_BYTES = 700e6
"""Resident size of torch, transformers and bitsandbytes once imported."""

_TRAINING_LIBRARIES_BYTES = 1.2e9
"""The same with TRL, datasets and what a trainer keeps."""

_STEP_TOKENS = 384
"""Tokens that a step of learning scales looks at."""

_SMOOTHING_TOKENS = 512
"""Calibration tokens where nothing but smoothing looks at them."""


def steps(plan: Plan) -> int:
    """Optimizer steps of the plan's training."""
    training = plan.recipe.recipe.training
    if training.max_steps:
        return training.max_steps
    per_step = training.batch_size * training.gradient_accumulation * training.processes
    return max(1, math.ceil(math.ceil(len(plan.train_rows) / per_step) * training.epochs))


def _mean_characters(rows: list[Row]) -> float:
    lengths = [
        len(row.text)
        if row.text is not None
        else sum(len(m["content"]) for m in row.messages or ())
        for row in rows[:200]
    ]
    return sum(lengths) / max(1, len(lengths))


def _tokens_per_row(rows: list[Row], limit: int) -> float:
    """About four characters to a token, and thirty tokens for what a chat template adds."""
    return min(float(limit), _mean_characters(rows) / 4 + 30)


def training_memory(plan: Plan) -> dict[str, float]:
    """Bytes of memory at training's peak by what they are for: libraries, weights, optimizer, activations."""
    model, recipe = plan.model, plan.recipe.recipe
    tokens = _tokens_per_row(plan.train_rows, recipe.data.max_length) * recipe.training.batch_size
    # Each process holds a model of its own.
    here = processes_here(plan.recipe)
    kept = tokens * model.layers * (14 * model.hidden_size + 5 * model.intermediate_size) * 4
    logits = 3 * tokens * model.vocab_size * 4 if plan.task == GENERATION else 0
    return {
        "libraries": here * _TRAINING_LIBRARIES_BYTES,
        "weights": here * model.parameters * 4.0,
        # The adapter itself, its gradient and AdamW's two moments, each in float32.
        "optimizer": here * adapter_elements(plan) * 16.0,
        "activations": here * float(kept + logits),
    }


def whole_bytes(model: ModelInfo) -> float:
    """Bytes of a model in float32."""
    return model.parameters * 4.0


def _is_fitted(plan: Plan) -> bool:
    return plan.recipe.recipe.combine.method == REGMEAN


def _adapters(plan: Plan) -> int:
    adapter = plan.recipe.recipe.adapter
    return len(adapter) if isinstance(adapter, list) else 1


def _moments(plan: Plan) -> float:
    """Bytes of the second moments of what every layer's products read, for every adapter."""
    model = plan.model
    layer = 6.0 * model.hidden_size**2 + model.intermediate_size**2
    return 4.0 * layer * model.layers * _adapters(plan)


def _calibration_tokens(plan: Plan) -> int:
    """Tokens that calibration takes; smoothing alone takes fewer than rounding."""
    tokens = plan.recipe.recipe.quantize.calibration.tokens
    others = any(plan.calibrates(target, smoothing=False) for target in plan.targets)
    return tokens if others else min(tokens, _SMOOTHING_TOKENS)


def _calibrates(plan: Plan) -> bool:
    return any(plan.calibrates(target) for target in plan.targets)


@dataclass(frozen=True)
class Cost:
    """What a stage of one kind takes: bytes of memory, bytes it leaves on disk under its name, seconds at a rate
    of float32 operations per second.
    """

    memory: Callable[[Plan], float]
    disk: Callable[[Plan, str], float]
    seconds: Callable[[Plan, float], float]


_START = 6.0
"""Seconds that a stage's process takes to begin."""
_SMALL = 20e6
"""Bytes of what holds no weights."""


def _largest(plan: Plan) -> float:
    return plan.model.vocab_size * plan.model.hidden_size * 4.0


def _body(plan: Plan) -> int:
    return plan.model.parameters - plan.model.embedding_parameters


def _base_memory(plan: Plan) -> float:
    whole = whole_bytes(plan.model)
    return _LIBRARIES_BYTES + (2.2 * whole if plan.model.kind == "gguf" else 0)


def _base_disk(plan: Plan, name: str) -> float:
    if plan.model.kind == "gguf" or plan.task != GENERATION:
        return whole_bytes(plan.model)
    needs = plan.needs
    changed = needs.rows is not None or needs.own_head or plan.recipe.recipe.data.tokens
    return plan.model.file_bytes * 1.1 if changed else 5e6


def _train_disk(plan: Plan, name: str) -> float:
    # Adapter, and two checkpoints that each hold it with both moments of the optimizer.
    return adapter_elements(plan) * 4 * 7


def _train_seconds(plan: Plan, flops: float) -> float:
    training, data = plan.recipe.recipe.training, plan.recipe.recipe.data
    # Processes of one machine share its rate; those of other hosts bring their own.
    rows = training.batch_size * training.gradient_accumulation * processes_here(plan.recipe)
    tokens = steps(plan) * rows * _tokens_per_row(plan.train_rows, data.max_length)
    # Forward and backward without weight gradients: 4 operations a weight and token; half the peak rate.
    return _START + tokens * plan.model.parameters * 4 / (0.5 * flops)


def _lazy_memory(plan: Plan) -> float:
    """One tensor at a time."""
    return _LIBRARIES_BYTES * 0.7 + 3 * _largest(plan)


def _lazy_seconds(plan: Plan, flops: float) -> float:
    return _START + plan.model.parameters * 2e-8


def _combine_memory(plan: Plan) -> float:
    if not _is_fitted(plan):
        return _lazy_memory(plan)
    inverse = 24.0 * plan.model.intermediate_size**2
    whole = whole_bytes(plan.model)
    return _LIBRARIES_BYTES + 1.1 * whole + min(_moments(plan), MOMENT_BYTES) + inverse


def _combine_seconds(plan: Plan, flops: float) -> float:
    if not _is_fitted(plan):
        return _lazy_seconds(plan, flops)
    rows = plan.recipe.recipe.combine.rows * _adapters(plan)
    read = rows * _tokens_per_row(plan.test_rows, plan.recipe.recipe.data.max_length)
    passes = math.ceil(_moments(plan) / MOMENT_BYTES)
    return _START + passes * read * plan.model.parameters * 2 / (0.5 * flops)


def _quantize_memory(plan: Plan) -> float:
    if not _calibrates(plan):
        return _lazy_memory(plan)
    model, tokens = plan.model, _calibration_tokens(plan)
    # One layer, the second moments of its widest input with their inverse, and activations of its boundary.
    layer = 12.0 * _body(plan) / max(1, model.layers) + 20.0 * model.intermediate_size**2
    activations = 12.0 * tokens * model.intermediate_size
    return _LIBRARIES_BYTES * 0.7 + layer + activations + 2 * _largest(plan)


def _quantize_disk(plan: Plan, name: str) -> float:
    return max(bundle_bytes(plan, t) for t in plan.targets if plan.quantize_stage(t) == name)


def _quantize_seconds(plan: Plan, flops: float) -> float:
    if not _calibrates(plan):
        return _lazy_seconds(plan, flops)
    quantize, body = plan.recipe.recipe.quantize, _body(plan)
    # Two passes and the second moments, about six operations a weight and token; rounding itself besides.
    calibration = _calibration_tokens(plan) * body * 6 / (0.5 * flops) + body * 1e-7
    # A step of learning is a forward and a backward pass through every layer over a few hundred tokens.
    calibration += quantize.learn_steps * _STEP_TOKENS * body * 6 / (0.5 * flops)
    if quantize.budget is None:
        return _START + calibration
    # Sensitivity is a forward and a backward pass over a thousand tokens, and five grids to try.
    budget = 1024 * body * 6 / (0.5 * flops) + body * 1e-7
    # Bounds on divergence take two attempts as a rule, each judged in a forward pass over held-out tokens.
    attempts = 1 if quantize.max_bytes is not None else 2
    judging = (attempts + 1) * 2048 * body * 2 / (0.5 * flops) * (attempts > 1)
    return _START + attempts * calibration + budget + judging


def _export_disk(plan: Plan, name: str) -> float:
    target = next(t for t in plan.targets if name == f"export-{t.name}")
    return bundle_bytes(plan, target)


def _whole_memory(plan: Plan) -> float:
    """A model in torch, float32."""
    return _LIBRARIES_BYTES + 1.1 * whole_bytes(plan.model) + 256 * plan.model.vocab_size * 12


def _witness_seconds(plan: Plan, flops: float, passes: float = 1.0) -> float:
    length = long_length(plan.model.context_length, limits_of(plan.model.config))
    load = whole_bytes(plan.model) * 1e-8
    return _START + load + passes * (length + 512) * plan.model.parameters * 2 / (0.25 * flops)


def _tested_tokens(plan: Plan) -> float:
    data = plan.recipe.recipe.data
    tested = min(len(plan.test_rows), data.max_test_rows)
    return tested * _tokens_per_row(plan.test_rows, data.max_length) + 2048


def _verify_memory(plan: Plan) -> float:
    largest = max(bundle_bytes(plan, target) for target in plan.targets)
    return 400e6 + largest * 2 + _largest(plan)


def _small(plan: Plan, name: str) -> float:
    return _SMALL


def _of_whole(plan: Plan, name: str) -> float:
    return whole_bytes(plan.model)


COSTS: Mapping[str, Cost] = {
    "base": Cost(_base_memory, _base_disk, _lazy_seconds),
    "train": Cost(lambda plan: sum(training_memory(plan).values()), _train_disk, _train_seconds),
    "combine": Cost(_combine_memory, _small, _combine_seconds),
    "merge": Cost(_lazy_memory, _of_whole, _lazy_seconds),
    "quantize": Cost(_quantize_memory, _quantize_disk, _quantize_seconds),
    "export": Cost(_lazy_memory, _export_disk, _lazy_seconds),
    "adapt": Cost(_lazy_memory, lambda plan, name: adapter_elements(plan) * 6, _lazy_seconds),
    "witness": Cost(_whole_memory, _small, _witness_seconds),
    "float-graph": Cost(
        lambda plan: _LIBRARIES_BYTES + 2 * whole_bytes(plan.model) + _largest(plan),
        _of_whole,
        lambda plan, flops: _witness_seconds(plan, flops, passes=3.0),
    ),
    "reference": Cost(
        _whole_memory,
        _small,
        lambda plan, flops: (
            _START + 2 * _tested_tokens(plan) * plan.model.parameters * 2 / (0.5 * flops)
        ),
    ),
    "verify": Cost(
        _verify_memory,
        _small,
        lambda plan, flops: (
            _START + 1.5 * _tested_tokens(plan) * plan.model.parameters * 2 / (0.25 * flops)
        ),
    ),
}
"""What each kind of stage takes."""
