"""A 4-bit checkpoint of bitsandbytes as float32: each weight dequantized once, by bitsandbytes itself.

The values are codes times scales in float32, where bitsandbytes' own forward would round them to the type that
the checkpoint was saved in. Rounded again onto the same grid, with scales that are not rounded, they give the
same codes: the largest value of a block is its scale times 1, so a block keeps its scale.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from edgepeft.checkpoints.safetensors_io import SafetensorsSource, write_checkpoint
from edgepeft.checkpoints.source import ComputedSource, TensorSource, TensorSpec
from edgepeft.errors import InputError
from edgepeft.models.four_bit import FourBitWeight, parts_of


def open_four_bit(folder: Path, weights: Mapping[str, FourBitWeight]) -> TensorSource:
    """The checkpoint in ``folder`` with ``weights`` as float32 [N, K] and the rest as stored."""
    from bitsandbytes.functional import QuantState, dequantize_4bit

    stored = SafetensorsSource.from_folder(folder)
    beside = parts_of(stored.specs)
    parts: dict[str, list[str]] = {}
    for part, name in beside.items():
        parts.setdefault(name, []).append(part)

    def load(name: str) -> torch.Tensor:
        tensor = stored.load(name)
        if name not in weights:
            return tensor
        said = {part.removeprefix(f"{name}."): stored.load(part) for part in parts[name]}
        state = QuantState.from_dict(said, device=torch.device("cpu"))
        state.dtype = torch.float32
        whole: torch.Tensor = dequantize_4bit(tensor, state)
        return whole.reshape(weights[name].shape)

    specs = {
        name: TensorSpec(weights[name].shape, torch.float32) if name in weights else spec
        for name, spec in stored.specs.items()
        if name not in beside
    }
    return ComputedSource(specs, load)


def one_grid(folder: Path, weights: Mapping[str, FourBitWeight]) -> tuple[str | None, int]:
    """Kind and block size of the grid that 4-bit weights lie on, None without any.

    Raises InputError where there are several.
    """
    grids = {(weight.kind, weight.block_size) for weight in weights.values()}
    if len(grids) > 1:
        raise InputError(
            f"{folder}: its 4-bit weights lie on {len(grids)} grids; only one is supported"
        )
    return next(iter(grids), (None, 64))


def dequantize_into(folder: Path, weights: Mapping[str, FourBitWeight], out: Path) -> None:
    """Write the checkpoint in ``folder`` into ``out``, whose ``config.json`` stops calling it quantized."""
    write_checkpoint(open_four_bit(folder, weights), out)
    path = out / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    del config["quantization_config"]
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
