"""One vector for each text of a batch, in torch, so that training reaches through it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from edgepeft.models.dense_files import BIAS, WEIGHT, WEIGHTS
from edgepeft.models.sentence_files import Pooling

Pool = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Vectors float32 [B, H] of token vectors [B, T, H] and a mask [B, T], which is 0 on padding."""

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": lambda vectors: vectors,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
}


def pooler(pooling: Pooling, base: Path) -> Pool:
    """What makes vectors of the texts of the staged ``base``; linear layers over them stay as they are."""
    layers = [
        (load_file(base / layer.folder / WEIGHTS), _ACTIVATIONS[layer.activation])
        for layer in pooling.dense
    ]

    def pooled(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        vectors = _pooled(hidden, mask, pooling)
        for stored, activation in layers:
            there = {name: tensor.to(vectors.device) for name, tensor in stored.items()}
            vectors = torch.nn.functional.linear(vectors, there[WEIGHT], there.get(BIAS))
            vectors = activation(vectors)
        return torch.nn.functional.normalize(vectors, dim=-1) if pooling.normalize else vectors

    return pooled


def _pooled(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Of texts padded on the right."""
    if pooling.mode == "cls":
        return hidden[:, 0]
    if pooling.mode == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]
    weights = mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)
