"""Checkpoints whose weights bitsandbytes has rounded to 4 bits already, known from their headers.

A weight [N, K] is stored as its codes, uint8 [N * K / 2, 1], with tensors beside it under its name: ``absmax``,
``quant_map``, ``nested_absmax`` and ``nested_quant_map`` where the scales are rounded too, and
``quant_state.bitsandbytes__nf4`` (or fp4), a small JSON object with shape and block size (``QuantState.as_dict``
of bitsandbytes).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgepeft.errors import InputError
from edgepeft.models.safetensors_header import StoredTensor

_PART = re.compile(
    r"^(?P<weight>.+)\.(?:absmax|quant_map|nested_absmax|nested_quant_map|(?P<state>quant_state\."
    r"bitsandbytes__(?P<kind>nf4|fp4)))$"
)
_STATE_BYTES = 4096
_LARGEST_BLOCK = 4096


@dataclass(frozen=True)
class FourBitWeight:
    """A weight as its state describes it: its shape [N, K], its grid, elements that share a scale."""

    shape: tuple[int, int]
    kind: Literal["nf4", "fp4"]
    block_size: int


def is_four_bit(config: Mapping[str, Any]) -> bool:
    """Whether a configuration says that bitsandbytes rounded the weights to 4 bits."""
    said = config.get("quantization_config")
    if not isinstance(said, Mapping) or said.get("quant_method") != "bitsandbytes":
        return False
    return bool(said.get("load_in_4bit") or said.get("_load_in_4bit"))


def parts_of(names: Mapping[str, Any]) -> dict[str, str]:
    """The names of tensors that lie beside a weight's codes, and the weight's."""
    found = ((name, _PART.match(name)) for name in names)
    return {name: match["weight"] for name, match in found if match and match["weight"] in names}


def read_four_bit(
    path: Path, tensors: Mapping[str, tuple[Path, StoredTensor]]
) -> dict[str, FourBitWeight]:
    """Every 4-bit weight of the checkpoint ``path`` by name; ``tensors`` are its files' and headers'.

    Raises InputError for codes without a state, and states that contradict what is stored.
    """
    found: dict[str, FourBitWeight] = {}
    for name, (file, state) in tensors.items():
        match = _PART.match(name)
        if match is None or not match["state"]:
            continue
        weight = match["weight"]
        if weight not in tensors:
            raise InputError(f"{path}: holds {name}, and no codes of {weight}")
        found[weight] = _weight(file, name, match["kind"], state)
        _check_sizes(path, weight, found[weight], tensors)
    beside = parts_of(tensors)
    for name, (_, stored) in tensors.items():
        if stored.dtype == "U8" and name not in found and name not in beside:
            raise InputError(
                f"{path}: {name} holds codes, and no quant_state says what they mean; the checkpoint is not whole"
            )
    return found


def _weight(file: Path, name: str, kind: str, state: StoredTensor) -> FourBitWeight:
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
    return FourBitWeight((rows, width), "nf4" if kind == "nf4" else "fp4", block)


def _check_sizes(
    path: Path,
    name: str,
    weight: FourBitWeight,
    tensors: Mapping[str, tuple[Path, StoredTensor]],
) -> None:
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
