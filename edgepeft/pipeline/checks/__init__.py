"""What can be said against a recipe before anything is loaded: small checks, each naming a key and the mend."""

from __future__ import annotations

from collections.abc import Callable

from edgepeft.pipeline.checks import (
    adapters,
    answers,
    encoders,
    hot_swap,
    models,
    quantization,
    rows,
    training,
)
from edgepeft.pipeline.resolved import ResolvedRecipe

Check = Callable[[ResolvedRecipe], None]
"""Raises InputError for the mistake that it looks for."""

CHECKS: tuple[Check, ...] = (
    adapters.check_combination_of,
    training.check_method_of,
    training.check_own_grid,
    training.check_new_tokens,
    training.check_preference,
    training.check_trackers,
    training.check_compute_dtype,
    quantization.check_lossless,
    quantization.check_requantized,
    quantization.check_symmetric,
    hot_swap.check_targets,
    hot_swap.check_method,
    hot_swap.check_names,
    adapters.check_trained_on,
    adapters.check_prefix,
    models.check_model,
    encoders.check_keys,
    encoders.check_training,
    encoders.check_vectors,
    models.check_head,
    models.check_vocabulary,
    rows.check_length,
    rows.check_generation,
    answers.check_targets,
    answers.check_rows,
    models.check_runtimes,
    quantization.check_calibration,
    quantization.check_budget,
    quantization.check_smoothing,
)


def validate(resolved: ResolvedRecipe) -> None:
    """Raise InputError for the first mistake in a recipe."""
    for check in CHECKS:
        check(resolved)
