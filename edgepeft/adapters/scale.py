"""What a LoRA's B A is multiplied with, and whether it is finite once that is done in float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepeft.adapters.patterns import own_values
from edgepeft.errors import InputError

_DEFAULT = 8
"""Rank and alpha of PEFT's LoraConfig, for configurations that leave one out."""

LARGEST = 3.0e38
"""Just below float32's largest number."""


def divisor(config: Mapping[str, Any], rank: int) -> float:
    """What alpha is divided by: the rank, or its root for rsLoRA (https://arxiv.org/abs/2312.03732)."""
    return rank**0.5 if config.get("use_rslora") else rank


def lora_scale(config: Mapping[str, Any]) -> float:
    """The scale of a LoRA's modules that no pattern names."""
    return _alpha(config) / divisor(config, _rank(config))


def lora_scales(
    config: Mapping[str, Any], names: Sequence[str], where: str
) -> dict[str, tuple[int, float]]:
    """Rank and scale of each of the modules ``names``, as PEFT works them out of a LoRA's configuration.

    ``where`` names its file. Raises InputError for patterns that are none or take too long.
    """
    ranks, alphas = (
        own_values(config.get(key), key, names, where) for key in ("rank_pattern", "alpha_pattern")
    )
    found = {}
    for name in names:
        rank = int(ranks.get(name, _rank(config)))
        found[name] = rank, float(alphas.get(name, _alpha(config))) / divisor(config, rank)
    return found


def _rank(config: Mapping[str, Any]) -> int:
    return int(config.get("r", _DEFAULT))


def _alpha(config: Mapping[str, Any]) -> float:
    return float(config.get("lora_alpha", _DEFAULT))


def check_scaled(
    where: Path, module: str, largest: tuple[float, float], rank: int, scale: float
) -> None:
    """Raise InputError where a change of weights could be infinite.

    ``largest`` are the largest magnitudes in A and in B. A sum of ``rank`` products can't be more than their
    product times the rank, and no adapter that was ever trained comes near the bound.
    """
    bound = largest[0] * largest[1] * rank * max(abs(scale), 1.0)
    if not bound <= LARGEST or not largest[1] * abs(scale) <= LARGEST:
        raise InputError(
            f"{where}: {module}: its factors are not finite once multiplied out and scaled by {scale:.3g}"
        )
