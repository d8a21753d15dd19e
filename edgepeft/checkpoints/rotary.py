"""Rotary positions that are scaled by one set of factors for short texts and by another for long ones.

Long rope (https://arxiv.org/abs/2402.13753), as Phi-3 has it: past a number of tokens every position of the text,
those before it too, is rotated by the long factors. A cache that was filled with the short ones is then of no
use, so whoever reads a text in pieces must know where the factors change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PHI3_SWITCH = 4096


def rotary_switch(config: Mapping[str, Any]) -> int | None:
    """The most tokens that a model rotates by its short factors; None where its positions don't depend on length.

    ``config`` is what ``config.json`` holds.
    """
    for key in ("rope_parameters", "rope_scaling"):
        settings = config.get(key)
        if not isinstance(settings, Mapping):
            continue
        if (settings.get("rope_type") or settings.get("type")) == "longrope":
            # transformers gives the outer key, or Phi-3's default for it, priority over the inner one.
            outer = _PHI3_SWITCH if config.get("model_type") == "phi3" else None
            outer = config.get("original_max_position_embeddings", outer)
            limit = outer or settings.get("original_max_position_embeddings")
            context = config.get("max_position_embeddings")
            if isinstance(limit, int) and isinstance(context, int) and limit < context:
                return limit
    return None


_OTHERWISE = (
    "glm",
    "glm4",
    "cohere",
    "cohere2",
    "helium",
    "phi",
    "stablelm",
    "gpt_neox",
    "ernie4_5",
)
"""Types of model that rotate neighbouring numbers, or a part of each attention head whatever they say of it."""
_PARTLY = ("nemotron",)
"""Those that rotate a part of each head where their configuration is silent."""


def rotates_whole_heads(config: Mapping[str, Any]) -> bool:
    """Whether positions turn the two halves of every attention head together, as a prefix's keys need it.

    ``config`` is what ``config.json`` holds.
    """
    kind = config.get("model_type")
    settings = [config, *(config.get(key) or {} for key in ("rope_parameters", "rope_scaling"))]
    parts = [one["partial_rotary_factor"] for one in settings if one.get("partial_rotary_factor")]
    part = min(parts, default=0.5 if kind in _PARTLY else 1.0)
    return kind not in _OTHERWISE and part == 1.0
