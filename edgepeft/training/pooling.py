"""One vector for each text of a batch, in torch, so that training reaches through it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from edgepeft.models.sentence_files import Pooling

Pool = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Vectors float32 [B, H] of token vectors [B, T, H] and a mask [B, T], which is 0 on padding."""


def pooler(pooling: Pooling, base: Path) -> Pool:
    """What makes vectors of the texts of the staged ``base``."""

    def pooled(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        vectors = _pooled(hidden, mask, pooling)
        return torch.nn.functional.normalize(vectors, dim=-1) if pooling.normalize else vectors

    return pooled


def _pooled(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    if pooling.mode == "cls":
        return hidden[:, 0]
    weights = mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)
