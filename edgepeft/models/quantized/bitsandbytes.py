"""Checkpoints that bitsandbytes has rounded, to 4 bits (NF4, FP4) or to 8.

A 4-bit weight [N, K] is stored as its codes, uint8 [N * K / 2, 1], with tensors beside it under its name:
``absmax``, ``quant_map``, ``nested_absmax`` and ``nested_quant_map`` where the scales are rounded too, and
``quant_state.bitsandbytes__nf4`` (or fp4), a small JSON object with shape and block size (``QuantState.as_dict``
of bitsandbytes). An 8-bit weight is int8 [N, K], with the largest value of each row beside it as ``SCB`` [N].
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgepeft.errors import InputError
from edgepeft.models.quantized.stored import Rounded, Stored, TrainedGrid
from edgepeft.models.quantized.weight import QuantizedWeight
from edgepeft.models.safetensors_header import StoredTensor

if TYPE_CHECKING:
    import torch

_PART = re.compile(
    r"^(?P<weight>.+)\.(?P<part>absmax|quant_map|nested_absmax|nested_quant_map|(?P<state>quant_state\."
    r"bitsandbytes__(?P<kind>nf4|fp4)))$"
)
_STATE_BYTES = 4096
_LARGEST_BLOCK = 4096
_CODES = "codes"
_LARGEST_CODE = 127
_LAYOUT = ".weight_format"
_ROW_BY_ROW = b"\0"
"""How the codes of an 8-bit weight lie in memory; the others are those of GPUs."""


@dataclass(frozen=True)
class FourBitWeight(QuantizedWeight):
    """A weight as its state describes it: its grid, elements that share a scale.

    Its values are codes times scales in float32, where bitsandbytes' own forward would round them to the type
    that the checkpoint was saved in. Rounded again onto the same grid, with scales that are not rounded, they
    give the same codes: the largest value of a block is its scale times 1, so a block keeps its scale.
    """

    kind: Literal["nf4", "fp4"]
    block_size: int

    def dequantized(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """See QuantizedWeight; by bitsandbytes itself."""
        import torch
        from bitsandbytes.functional import QuantState, dequantize_4bit

        said = {part: tensor for part, tensor in parts.items() if part != _CODES}
        state = QuantState.from_dict(said, device=torch.device("cpu"))
        state.dtype = torch.float32
        whole: torch.Tensor = dequantize_4bit(parts[_CODES], state)
        return whole.reshape(self.shape)


@dataclass(frozen=True)
class EightBitWeight(QuantizedWeight):
    """A weight of LLM.int8() (https://arxiv.org/abs/2208.07339)."""

    def dequantized(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """See QuantizedWeight."""
        import torch

        scales = parts["SCB"].to(torch.float32) / _LARGEST_CODE
        return parts[_CODES].to(torch.float32) * scales[:, None]


def read(stored: Stored) -> Rounded:
    """Every weight that bitsandbytes rounded.

    Raises InputError for codes without a state, and states that contradict what is stored.
    """
    said = stored.said
    if said.get("load_in_4bit") or said.get("_load_in_4bit"):
        return _four_bit(stored)
    if said.get("load_in_8bit") or said.get("_load_in_8bit"):
        return _eight_bit(stored)
    raise stored.refused(
        "load_in_4bit", "neither this nor load_in_8bit is set, so nothing says what is stored"
    )


def _eight_bit(stored: Stored) -> Rounded:
    stored.orphans(("SCB",), "weight")
    weights: dict[str, QuantizedWeight] = {}
    for module in stored.modules("SCB"):
        parts = {_CODES: f"{module}.weight", "SCB": f"{module}.SCB"}
        rows, width = stored.require(parts[_CODES], 2, "I8")
        stored.require(parts["SCB"], 1, "F32")
        stored.hold(parts["SCB"], (rows,), f"{parts[_CODES]} of {rows} rows")
        weights[f"{module}.weight"] = EightBitWeight((rows, width), "INT8", parts)
    for name, (_, tensor) in stored.tensors.items():
        if tensor.dtype == "I8" and name not in weights:
            raise InputError(
                f"{stored.path}: lacks {name.removesuffix('weight')}SCB; the checkpoint is not whole"
            )
    unread = {name for name in stored.tensors if name.endswith(_LAYOUT)}
    for name in sorted(unread):
        stored.require(name, 0, "U8")
        if stored.content(name) != _ROW_BY_ROW:
            raise InputError(
                f"{stored.path}: {name} is not 0, so the codes don't lie row by row; only that is supported"
            )
    return Rounded(stored.method, weights, frozenset(unread))


def _four_bit(stored: Stored) -> Rounded:
    path, tensors = stored.path, stored.tensors
    parts: dict[str, dict[str, str]] = {}
    for name in tensors:
        if (match := _PART.match(name)) is not None:
            parts.setdefault(match["weight"], {})[match["part"]] = name
    weights: dict[str, FourBitWeight] = {}
    for name, (file, state) in tensors.items():
        match = _PART.match(name)
        if match is None or not match["state"]:
            continue
        weight = match["weight"]
        if weight not in tensors:
            raise InputError(f"{path}: holds {name}, and no codes of {weight}")
        named = {_CODES: weight, **parts[weight]}
        weights[weight] = found = _weight(file, name, match["kind"], state, named)
        _check_sizes(stored, weight, found)
    beside = {part for weight in parts if weight in tensors for part in parts[weight].values()}
    for name, (_, tensor) in tensors.items():
        if tensor.dtype == "U8" and name not in weights and name not in beside:
            raise InputError(
                f"{path}: {name} holds codes, and no quant_state says what they mean; the checkpoint is not whole"
            )
    grids = {TrainedGrid(one.kind, one.block_size) for one in weights.values()}
    if len(grids) > 1:
        raise InputError(
            f"{path}: its 4-bit weights lie on {len(grids)} grids; only one is supported"
        )
    if not weights:
        stored.modules("absmax")
    return Rounded(stored.method, weights, frozenset(beside), next(iter(grids)))


def _weight(
    file: Path, name: str, kind: str, state: StoredTensor, parts: Mapping[str, str]
) -> FourBitWeight:
    try:
        with file.open("rb") as stream:
            stream.seek(state.start)
            said = json.loads(stream.read(min(state.end - state.start, _STATE_BYTES)))
        rows, width = said["shape"]
        block = said["blocksize"]
        sizes = all(type(size) is int and size > 0 for size in (rows, width, block))
        if said["quant_type"] != kind or not sizes or block > _LARGEST_BLOCK:
            raise ValueError("sizes or kind")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{file}: {name} can't be read ({error}); the file is damaged") from None
    return FourBitWeight(
        (rows, width), kind.upper(), parts, "nf4" if kind == "nf4" else "fp4", block
    )


def _check_sizes(stored: Stored, name: str, weight: FourBitWeight) -> None:
    path, tensors = stored.path, stored.tensors
    elements = math.prod(weight.shape)
    blocks = -(-elements // weight.block_size)
    wanted = {name: (elements + 1) // 2, f"{name}.absmax": blocks, f"{name}.quant_map": 16}
    for part, size in wanted.items():
        if part not in tensors:
            raise InputError(f"{path}: lacks {part}; the checkpoint is not whole")
        if tensors[part][1].elements != size:
            raise InputError(
                f"{path}: {part} has {tensors[part][1].elements} elements, and a weight {list(weight.shape)} in "
                f"blocks of {weight.block_size} calls for {size}"
            )
    if tensors[f"{name}.absmax"][1].dtype == "U8":
        for part in ("nested_absmax", "nested_quant_map"):
            if f"{name}.{part}" not in tensors:
                raise InputError(f"{path}: lacks {name}.{part}; the checkpoint is not whole")
