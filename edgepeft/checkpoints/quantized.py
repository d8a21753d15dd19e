"""A checkpoint that was published rounded as float32: each weight dequantized once, as its format defines it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from edgepeft.checkpoints.fit import fit_checkpoint
from edgepeft.checkpoints.safetensors_io import SafetensorsSource, write_checkpoint
from edgepeft.checkpoints.source import ComputedSource, TensorSpec
from edgepeft.errors import InputError
from edgepeft.events import Events
from edgepeft.models.quantized import Rounded
from edgepeft.utils.finite import all_finite


def open_quantized(folder: Path, rounded: Rounded) -> ComputedSource:
    """The checkpoint in ``folder`` with its rounded weights as float32 [N, K] and the rest as stored.

    A tensor that can't be read raises InputError when it is loaded.
    """
    stored = SafetensorsSource.from_folder(folder, codes=True)
    weights, beside = rounded.weights, rounded.beside
    specs = {name: TensorSpec(weight.shape, torch.float32) for name, weight in weights.items()} | {
        name: spec for name, spec in stored.specs.items() if name not in beside
    }

    def load(name: str) -> torch.Tensor:
        if name not in weights:
            found = stored.load(name)
        else:
            parts = {part: stored.load(own) for part, own in weights[name].parts.items()}
            try:
                found = weights[name].dequantized(parts)
            except ValueError as error:
                raise InputError(f"{folder}: {name} {error}") from None
        if not all_finite(found):
            raise InputError(f"{folder}: {name} holds NaN or infinite values")
        return found

    return ComputedSource(specs, load)


def dequantize_into(
    folder: Path, rounded: Rounded, skeleton: Any, out: Path, events: Events | None = None
) -> None:
    """Write the checkpoint in ``folder`` into ``out``, whose ``config.json`` stops calling it quantized.

    Names and shapes are held against ``skeleton``, a model on the meta device, before anything is written. Raises
    InputError.
    """
    source = _without_made_up(open_quantized(folder, rounded), rounded, skeleton)
    fit_checkpoint(source, skeleton, folder)
    write_checkpoint(source, out, events=events)
    path = out / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("quantization_config", "compression_config"):
        config.pop(key, None)
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _without_made_up(source: ComputedSource, rounded: Rounded, skeleton: Any) -> ComputedSource:
    """Take off biases of zeros that a tool gave to rounded layers, as AutoGPTQ did, where the model has none."""
    known = skeleton.state_dict()
    biases = [f"{name.removesuffix('weight')}bias" for name in rounded.weights if name in known]
    made_up = {
        name
        for name in biases
        if name in source.specs and name not in known and not source.load(name).any()
    }
    specs = {name: spec for name, spec in source.specs.items() if name not in made_up}
    return ComputedSource(specs, source.load)
