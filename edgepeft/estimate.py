"""What a plan will cost, roughly, before anything starts: disk, peak memory, time, bundle sizes.

The figures come from the model's headers and the recipe alone. Times assume that training is bound by matrix
products at a rate measured here for half a second; they are for deciding whether to start, not for promises.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edgepeft.data.rows import Row
from edgepeft.planning import Plan
from edgepeft.quantization.algorithms import is_calibrated, resolve_algorithm
from edgepeft.stage import Stage
from edgepeft.targets import TargetProfile
from edgepeft.tasks import GENERATION
from edgepeft.training.hosts import processes_here
from edgepeft.training.methods import find_method
from edgepeft.workspace import is_finished

_LIBRARIES_BYTES = 700e6
"""Resident size of torch, transformers and bitsandbytes once imported."""

_TRAINING_LIBRARIES_BYTES = 1.2e9
"""The same with TRL, datasets and what a trainer keeps."""

_RUNTIME_BYTES = 160e6
"""Resident size of Python with onnxruntime-genai and a tokenizer, before any weight."""

_STEP_TOKENS = 384
"""Tokens that a step of learning scales looks at."""

_SMOOTHING_TOKENS = 512
"""Calibration tokens where nothing but smoothing looks at them."""


@dataclass(frozen=True)
class StageEstimate:
    """One stage's rough cost: bytes of memory at its peak, bytes it leaves on disk, seconds."""

    name: str
    memory_bytes: float
    disk_bytes: float
    seconds: float
    cached: bool

    def as_dict(self) -> dict[str, Any]:
        """JSON form, whole numbers."""
        return {
            "stage": self.name,
            "memory_bytes": int(self.memory_bytes),
            "disk_bytes": int(self.disk_bytes),
            "seconds": round(self.seconds, 1),
            "reused": self.cached,
        }


def disk_needed(plan: Plan) -> int:
    """Bytes that the stages still to run will write, the larger temporary files included."""
    return disk_of((plan, stage) for stage in plan.stages)


def disk_of(stages: Iterable[tuple[Plan, Stage]]) -> int:
    """The same of stages with the plans that they are of."""
    sizes = [
        _disk(plan, stage.kind, stage.name)
        for plan, stage in stages
        if not is_finished(stage.final, stage.key)
    ]
    return int(1.05 * sum(sizes))


def estimate(plan: Plan, flops_per_second: float | None = None) -> list[StageEstimate]:
    """The rough cost of every stage; ``flops_per_second`` is measured when not given."""
    rate = flops_per_second or measure_flops()
    return [estimate_stage(plan, stage, rate) for stage in plan.stages]


def estimate_stage(plan: Plan, stage: Stage, flops_per_second: float) -> StageEstimate:
    """The rough cost of one stage of a plan."""
    return StageEstimate(
        name=stage.name,
        memory_bytes=memory_of(plan, stage),
        disk_bytes=_disk(plan, stage.kind, stage.name),
        seconds=_seconds(plan, stage.kind, flops_per_second),
        cached=is_finished(stage.final, stage.key),
    )


def memory_of(plan: Plan, stage: Stage) -> float:
    """Bytes of memory that a stage takes at its peak, roughly."""
    return _memory(plan, stage.kind)


def measure_flops() -> float:
    """Float32 operations per second of a matrix product on this machine, from half a second of them."""
    import numpy as np

    side = 768
    left = np.ones((side, side), dtype=np.float32)
    left @ left
    products, started = 0, time.perf_counter()
    while time.perf_counter() - started < 0.5:
        left @ left
        products += 1
    return 2.0 * side**3 * products / (time.perf_counter() - started)


def adapter_parameters(plan: Plan) -> int | None:
    """Elements that train: of the whole model, of a LoRA, or None for methods whose size PEFT alone knows.

    A LoRA is taken to be on every linear layer, or on the named ones as far as the shapes are known.
    """
    model, settings = plan.model, plan.recipe.recipe.method
    method = find_method(settings.name)
    if method.peft_type is None:
        return model.parameters
    if method.peft_type not in ("LORA", "ADALORA"):
        return None
    heads = int(model.config.get("num_attention_heads") or 0)
    head = int(model.config.get("head_dim") or (model.hidden_size // heads if heads else 64))
    kv = int(model.config.get("num_key_value_heads") or heads or 1) * head
    query = (heads * head) or model.hidden_size
    hidden, inner = model.hidden_size, model.intermediate_size
    widths = {
        "q_proj": hidden + query,
        "k_proj": hidden + kv,
        "v_proj": hidden + kv,
        "o_proj": query + hidden,
        "gate_proj": hidden + inner,
        "up_proj": hidden + inner,
        "down_proj": inner + hidden,
    }
    named = settings.target_modules
    chosen = widths if isinstance(named, str) else {k: v for k, v in widths.items() if k in named}
    rank = int(method.common(settings.model_dump())["rank"])
    return rank * model.layers * sum(chosen.values())


def _adapter_size(plan: Plan) -> int:
    """Elements of the adapter for estimates; a hundredth of the model where nothing better is known."""
    found = adapter_parameters(plan)
    return plan.model.parameters // 100 if found is None else found


def steps(plan: Plan) -> int:
    """Optimizer steps of the plan's training."""
    training = plan.recipe.recipe.training
    if training.max_steps:
        return training.max_steps
    per_step = training.batch_size * training.gradient_accumulation * training.processes
    return max(1, math.ceil(math.ceil(len(plan.train_rows) / per_step) * training.epochs))


def bundle_bytes(plan: Plan, target: TargetProfile) -> float:
    """Size of a target's bundle: weights on their grids plus tokenizer and configuration."""
    model, quantize = plan.model, plan.grids[target.name]
    body = model.parameters - model.embedding_parameters
    width = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0}
    if target.precision == "nf4":
        return (
            body * (0.5 + 4 / 64) + _adapter_size(plan) * 4 + model.embedding_parameters * 4 + 4e6
        )
    if target.bits is None:
        return model.parameters * width[target.precision] + 4e6
    if quantize.max_bytes is not None:
        return float(quantize.max_bytes)
    zero = 0.0 if quantize.symmetric else 1.0
    # Calibrated rounding chooses its codes for scales in half precision; the others keep float32.
    scale = 2.0 if is_calibrated(resolve_algorithm(quantize.algorithm, target.bits)) else 4.0

    def per_weight(bits: int, block_size: int) -> float:
        return bits / 8 + (scale + zero * bits / 8) / block_size

    head = (
        width[target.io_dtype]
        if quantize.head == "float"
        else per_weight(int(quantize.head.removeprefix("int")), quantize.head_blocks(target.bits))
    )
    layers = body * per_weight(target.bits, quantize.block_size)
    return layers + model.embedding_parameters * head + 4e6


def device_memory(plan: Plan, target: TargetProfile, tokens: int = 2048) -> float:
    """Resident bytes of a process that answers with a target's bundle, its cache holding ``tokens``.

    Measured on SmolLM2 as int4 and int8: 162 MB besides the bundle's own bytes, the cache next to empty.
    """
    model = plan.model
    heads = int(model.config.get("num_attention_heads") or 0)
    kv_heads = int(model.config.get("num_key_value_heads") or heads or 1)
    head = int(model.config.get("head_dim") or (model.hidden_size // heads if heads else 64))
    width = 2 if target.io_dtype == "fp16" else 4
    cache = 2 * model.layers * kv_heads * head * min(tokens, model.context_length) * width
    return bundle_bytes(plan, target) + cache + _RUNTIME_BYTES


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


def _disk(plan: Plan, kind: str, name: str) -> float:
    parameters = plan.model.parameters
    if kind == "base":
        copied = plan.model.kind == "gguf" or plan.task != GENERATION
        return parameters * 4 if copied else 5e6
    if kind == "train":
        # Adapter, and two checkpoints that each hold it with both moments of the optimizer.
        return _adapter_size(plan) * 4 * 7
    if kind == "merge":
        return parameters * 4
    if kind == "quantize":
        return max(bundle_bytes(plan, t) for t in plan.targets if plan.quantize_stage(t) == name)
    if kind == "export":
        target = next(t for t in plan.targets if name == f"export-{t.name}")
        return bundle_bytes(plan, target)
    if kind == "adapt":
        return _adapter_size(plan) * 6
    return 20e6


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
        "optimizer": here * _adapter_size(plan) * 16.0,
        "activations": here * float(kept + logits),
    }


def _memory(plan: Plan, kind: str) -> float:
    model = plan.model
    whole = model.parameters * 4.0
    largest = model.vocab_size * model.hidden_size * 4.0
    if kind == "base":
        return _LIBRARIES_BYTES + (2.2 * whole if model.kind == "gguf" else 0)
    if kind == "train":
        return sum(training_memory(plan).values())
    if kind == "quantize" and _calibrates(plan):
        tokens = _calibration_tokens(plan)
        body = model.parameters - model.embedding_parameters
        # One layer, the second moments of its widest input with their inverse, and activations of its boundary.
        layer = 12.0 * body / max(1, model.layers) + 20.0 * model.intermediate_size**2
        return (
            _LIBRARIES_BYTES * 0.7 + layer + 12.0 * tokens * model.intermediate_size + 2 * largest
        )
    if kind in ("combine", "merge", "quantize", "export", "adapt"):
        return _LIBRARIES_BYTES * 0.7 + 3 * largest
    if kind == "reference":
        return _LIBRARIES_BYTES + 1.1 * whole + 256 * model.vocab_size * 12
    return 400e6 + max(bundle_bytes(plan, target) for target in plan.targets) * 2 + largest


def _seconds(plan: Plan, kind: str, flops: float) -> float:
    model, data = plan.model, plan.recipe.recipe.data
    start = 6.0
    if kind == "train":
        training = plan.recipe.recipe.training
        # Processes of one machine share its rate; those of other hosts bring their own.
        rows = training.batch_size * training.gradient_accumulation * processes_here(plan.recipe)
        tokens = steps(plan) * rows * _tokens_per_row(plan.train_rows, data.max_length)
        # Forward and backward without weight gradients: 4 operations a weight and token; half the peak rate.
        return start + tokens * model.parameters * 4 / (0.5 * flops)
    tested = min(len(plan.test_rows), data.max_test_rows)
    tokens = tested * _tokens_per_row(plan.test_rows, data.max_length) + 2048
    if kind == "reference":
        return start + 2 * tokens * model.parameters * 2 / (0.5 * flops)
    if kind == "verify":
        return start + 1.5 * tokens * model.parameters * 2 / (0.25 * flops)
    if kind == "quantize" and _calibrates(plan):
        quantize = plan.recipe.recipe.quantize
        body = model.parameters - model.embedding_parameters
        # Two passes and the second moments, about six operations a weight and token; rounding itself besides.
        calibration = _calibration_tokens(plan) * body * 6 / (0.5 * flops) + body * 1e-7
        # A step of learning is a forward and a backward pass through every layer over a few hundred tokens.
        calibration += quantize.learn_steps * _STEP_TOKENS * body * 6 / (0.5 * flops)
        if quantize.budget is None:
            return start + calibration
        # Sensitivity is a forward and a backward pass over a thousand tokens, and four grids to try.
        budget = 1024 * body * 6 / (0.5 * flops) + body * 1e-7
        # Bounds on divergence take two attempts as a rule, each judged in a forward pass over held-out tokens.
        attempts = 1 if quantize.max_bytes is not None else 2
        judging = (attempts + 1) * 2048 * body * 2 / (0.5 * flops) * (attempts > 1)
        return start + attempts * calibration + budget + judging
    return start + model.parameters * 2e-8


def _calibration_tokens(plan: Plan) -> int:
    """Tokens that calibration takes; smoothing alone takes fewer than rounding."""
    tokens = plan.recipe.recipe.quantize.calibration.tokens
    others = any(plan.calibrates(target, smoothing=False) for target in plan.targets)
    return tokens if others else min(tokens, _SMOOTHING_TOKENS)


def _calibrates(plan: Plan) -> bool:
    return any(plan.calibrates(target) for target in plan.targets)
