"""Terms of what stages cost, told from headers and recipe: bytes of memory and disk, seconds."""

from __future__ import annotations

import json

from edgepeft.data.rows import Row, said
from edgepeft.models import ModelInfo
from edgepeft.models.tasks import GENERATION
from edgepeft.pipeline.resolved import ResolvedRecipe
from edgepeft.pipeline.sizes import adapter_elements

LIBRARIES_BYTES = 700e6
"""Resident size of torch, transformers and bitsandbytes once imported."""

_TRAINING_LIBRARIES_BYTES = 1.2e9
"""The same with TRL, datasets and what a trainer keeps."""

START = 6.0
"""Seconds that a stage's process takes to begin."""
_SMALL = 20e6
"""Bytes of what holds no weights."""


def tokens_per_row(rows: list[Row], limit: int) -> float:
    """About four characters to a token, and thirty tokens for what a chat template adds."""
    return min(float(limit), _mean_characters(rows) / 4 + 30)


def _mean_characters(rows: list[Row]) -> float:
    lengths = [
        len(row.text)
        if row.text is not None
        else sum(len(said(turn)) for turn in row.messages or ()) + len(json.dumps(row.tools))
        for row in rows[:200]
    ]
    return sum(lengths) / max(1, len(lengths))


def tested_tokens(resolved: ResolvedRecipe) -> float:
    """Tokens of the test rows and of generic text."""
    data = resolved.recipe.data
    tested = min(len(resolved.test_rows), data.max_test_rows)
    return tested * tokens_per_row(resolved.test_rows, data.max_length) + 2048


def training_memory(resolved: ResolvedRecipe) -> dict[str, float]:
    """Bytes of memory at training's peak by what they are for: libraries, weights, optimizer, activations."""
    model, recipe = resolved.model, resolved.recipe
    tokens = tokens_per_row(resolved.train_rows, recipe.data.max_length)
    tokens *= recipe.training.batch_size
    # Each process holds a model of its own.
    here = resolved.local_processes
    kept = tokens * model.layers * (14 * model.hidden_size + 5 * model.intermediate_size) * 4
    logits = 3 * tokens * model.vocab_size * 4 if resolved.task == GENERATION else 0
    return {
        "libraries": here * _TRAINING_LIBRARIES_BYTES,
        "weights": here * whole_bytes(model),
        # The adapter itself, its gradient and AdamW's two moments, each in float32.
        "optimizer": here * adapter_elements(resolved) * 16.0,
        "activations": here * float(kept + logits),
    }


def whole_bytes(model: ModelInfo) -> float:
    """Bytes of a model in float32."""
    return model.parameters * 4.0


def largest_bytes(model: ModelInfo) -> float:
    """Bytes of a model's largest tensor in float32."""
    return model.vocab_size * model.hidden_size * 4.0


def whole_memory(resolved: ResolvedRecipe) -> float:
    """A model in torch, float32."""
    model = resolved.model
    return LIBRARIES_BYTES + 1.1 * whole_bytes(model) + 256 * model.vocab_size * 12


def lazy_memory(resolved: ResolvedRecipe) -> float:
    """One tensor at a time."""
    return LIBRARIES_BYTES * 0.7 + 3 * largest_bytes(resolved.model)


def lazy_seconds(resolved: ResolvedRecipe, flops: float) -> float:
    """Every tensor once."""
    return START + resolved.model.parameters * 2e-8


def small(resolved: ResolvedRecipe, name: str) -> float:
    """What holds no weights."""
    return _SMALL


def of_whole(resolved: ResolvedRecipe, name: str) -> float:
    """A model in float32."""
    return whole_bytes(resolved.model)
