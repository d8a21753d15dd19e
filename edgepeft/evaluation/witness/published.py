"""Weights of checkpoints that were published rounded, for the second witness.

transformers reads GPTQ, AWQ, FP8 and compressed-tensors with the help of further libraries or devices alone. So
the witness decodes them itself, by their published specifications, in numpy. Nothing is shared with the readers
that the base is staged by, whose mistakes it is to find.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgepeft.errors import EdgepeftError

Values = NDArray[np.float32]
_PACKED = ("qweight", "weight_packed")
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""The outputs whose codes lie in a word, lowest bits first (WQLinear_GEMM of AutoAWQ)."""
_SCALES = ("weight_scale_inv", "weight_scale", "qscale_weight")


def float_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Every weight of a rounded checkpoint in float32, by the name that transformers has for it.

    Raises EdgepeftError for a format that the witness does not know.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    said = config.get("quantization_config") or config["compression_config"]
    stored = _stored(folder)
    found: dict[str, torch.Tensor] = {}
    for name in stored:
        module, _, part = name.rpartition(".")
        if part in _PACKED:
            beside = {
                key.rpartition(".")[2]: value
                for key, value in stored.items()
                if key.rpartition(".")[0] == module
            }
            found[f"{module}.weight"] = torch.from_numpy(_unpacked(beside, said))
        elif part in ("weight", "bias"):
            scale = next(
                (stored[f"{module}.{one}"] for one in _SCALES if f"{module}.{one}" in stored), None
            )
            if scale is None or part == "bias":
                found[name] = stored[name].float()
            else:
                zero = stored.get(f"{module}.weight_zero_point")
                found[name] = torch.from_numpy(_scaled(stored[name], scale, zero, said))
    return found


def _stored(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    index, files = folder / "model.safetensors.index.json", {"model.safetensors"}
    if index.is_file():
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    found: dict[str, torch.Tensor] = {}
    for file in sorted(files):
        found |= load_file(folder / file)
    return found


def _unpacked(parts: Mapping[str, torch.Tensor], said: Mapping[str, Any]) -> Values:
    read = {"gptq": _gptq, "awq": _awq, "compressed-tensors": _compressed}.get(said["quant_method"])
    if read is None:
        raise EdgepeftError(f"the second witness does not know weights of {said['quant_method']}")
    return read(parts, said)


def _gptq(parts: Mapping[str, torch.Tensor], said: Mapping[str, Any]) -> Values:
    """Codes along the inputs, zeros along the outputs; scale and zero are those of each input's group."""
    groups, long = parts["scales"].shape[0], parts["qweight"].shape[0] * 32
    inputs = parts["g_idx"].shape[0] if "g_idx" in parts else long // said["bits"]
    bits = long // inputs
    codes = _fields(parts["qweight"].numpy().T, bits)
    form = said.get("checkpoint_format") or said.get("format") or "gptq"
    zeros = _fields(parts["qzeros"].numpy(), bits) + np.float32(0 if form == "gptq_v2" else 1)
    scales = parts["scales"].float().numpy()
    size = (
        -(-inputs // groups)
        if said.get("dynamic") or said["group_size"] < 0
        else said["group_size"]
    )
    of_input = parts["g_idx"].numpy() if "g_idx" in parts else np.arange(inputs) // size
    found: Values = (codes - zeros[of_input].T) * scales[of_input].T
    return found


def _awq(parts: Mapping[str, torch.Tensor], said: Mapping[str, Any]) -> Values:
    """Words along the outputs, each of eight in AutoAWQ's order."""
    scales = parts["scales"].float().numpy()
    codes, zeros = (_fields(parts[name].numpy(), 4) for name in ("qweight", "qzeros"))
    inputs, outputs = codes.shape
    found = np.empty((outputs, inputs), np.float32)
    for place in range(outputs):
        word, slot = divmod(place, 8)
        output = word * 8 + _AWQ_ORDER[slot]
        zero = np.repeat(zeros[:, place], inputs // len(zeros))
        scale = np.repeat(scales[:, output], inputs // len(scales))
        found[output] = (codes[:, place] - zero) * scale
    return found


def _compressed(parts: Mapping[str, torch.Tensor], said: Mapping[str, Any]) -> Values:
    """Codes along the inputs, less the smallest of their two's complement."""
    outputs, inputs = (int(size) for size in parts["weight_shape"])
    scales = parts["weight_scale"].float().numpy().reshape(-1, parts["weight_scale"].shape[-1])
    scales = np.broadcast_to(scales, (outputs, scales.shape[1]))
    bits = next(
        bits for bits in (2, 4, 8) if -(-inputs * bits // 32) == parts["weight_packed"].shape[1]
    )
    smallest = np.float32(1 << (bits - 1))
    signed = _fields(parts["weight_packed"].numpy(), bits)[:, :inputs] - smallest
    zeros = np.zeros((outputs, scales.shape[1]), np.float32)
    if "weight_zero_point" in parts:
        stored = parts["weight_zero_point"].numpy()
        if stored.dtype == np.int8:
            zeros = stored.astype(np.float32)
        else:
            zeros = _fields(stored.T, bits)[:, :outputs].T - smallest
    size = -(-inputs // scales.shape[1])
    groups = [
        int(parts["weight_g_idx"][one]) if "weight_g_idx" in parts else one // size
        for one in range(inputs)
    ]
    found: Values = (signed - zeros[:, groups]) * scales[:, groups]
    return found


def _scaled(
    codes: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | None, said: Mapping[str, Any]
) -> Values:
    """Codes that are numbers by themselves, under one scale, one a row, or one a block."""
    values = codes.float().numpy()
    rows, width = values.shape
    factors = scale.float().numpy()
    if scale.dtype == torch.uint8:
        factors = np.exp2(factors - 127)
    factors = factors.reshape(-1, 1) if factors.ndim < 2 else factors
    tall, wide = _block(said, (rows, width), factors.shape)
    if zero is not None and zero.dtype == torch.int8:
        values = values - zero.float().numpy().reshape(-1, 1)
    spread = np.repeat(np.repeat(factors, tall, axis=0)[:rows], wide, axis=1)[:, :width]
    found: Values = values * spread
    return found


def _block(
    said: Mapping[str, Any], weight: tuple[int, int], grid: tuple[int, ...]
) -> tuple[int, int]:
    """Rows and columns under one scale."""
    for group in said.get("config_groups", {}).values():
        if group["weights"].get("block_structure"):
            tall, wide = group["weights"]["block_structure"]
            return int(tall), int(wide)
    if said.get("weight_block_size"):
        tall, wide = said["weight_block_size"]
        return int(tall), int(wide)
    return weight[0] // grid[0], weight[1]


def _fields(words: NDArray[np.int32], bits: int) -> Values:
    """Numbers of ``bits`` bits in rows of int32 words, read as one little-endian stream of bits a row.

    They are float32, which holds each of them.
    """
    content = np.ascontiguousarray(words).astype("<i4", copy=False).view(np.uint8)
    if 8 % bits == 0:
        each = content[:, :, None] >> np.arange(0, 8, bits, dtype=np.uint8)
        return (each & np.uint8((1 << bits) - 1)).reshape(len(words), -1).astype(np.float32)
    stream = np.unpackbits(content, axis=1, bitorder="little")
    count = stream.shape[1] // bits
    fields = stream[:, : count * bits].reshape(len(words), count, bits)
    return np.packbits(fields, axis=2, bitorder="little")[:, :, 0].astype(np.float32)
