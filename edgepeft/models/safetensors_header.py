"""Headers of safetensors files, read without any library and held to the format's own rules.

The format: https://github.com/huggingface/safetensors#format. Names are unique, data lies without holes or
overlaps, and as many bytes as a shape calls for; whoever breaks one of these gets one tensor's bytes under
another's name.
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepeft.errors import InputError
from edgepeft.utils.files import require_regular

HEADER_BYTES = 25_000_000
"""The longest header that is read: some 200,000 tensors. The library's own limit is four times that."""
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
}
"""Bits of an element by the format's name of its type."""
FLOATS = ("F64", "F32", "F16", "BF16")
"""Types of weights that are not quantized."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a header describes it; ``start`` and ``end`` count the file's bytes."""

    shape: tuple[int, ...]
    dtype: str
    start: int
    end: int

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Every tensor of a safetensors file by name, in the order of the data. Raises InputError."""
    require_regular(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(HEADER_BYTES, size - 8):
                raise ValueError("header length out of bounds")
            header = json.loads(stream.read(length), object_pairs_hook=_unique)
        if not isinstance(header, dict):
            raise ValueError("malformed header")
        header.pop("__metadata__", None)
        found = {name: _tensor(name, entry, 8 + length) for name, entry in header.items()}
        ordered = dict(sorted(found.items(), key=lambda item: (item[1].start, item[1].end)))
        _check_layout(ordered, 8 + length, size)
    except (OSError, ValueError, struct.error, RecursionError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from None
    return ordered


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{twice} is there twice")
    return found


def _tensor(name: str, entry: object, data: int) -> StoredTensor:
    """One entry of a header; ``data`` is where the tensors' bytes begin."""
    if not isinstance(entry, dict):
        raise ValueError("malformed header")
    shape: Any = entry.get("shape")
    offsets: Any = entry.get("data_offsets")
    dtype = entry.get("dtype")
    if not (_counts(shape) and _counts(offsets) and len(offsets) == 2 and isinstance(dtype, str)):
        raise ValueError(f"malformed header: {name}")
    if dtype not in _BITS:
        raise ValueError(f"{name} has the unknown type {dtype}")
    start, end = offsets
    if start > end or (end - start) * 8 != math.prod(shape) * _BITS[dtype]:
        raise ValueError(f"{name}: {end - start} bytes don't hold a {dtype} of shape {shape}")
    return StoredTensor(tuple(shape), dtype, data + start, data + end)


def _counts(value: Any) -> bool:
    """Whether a value is a list of whole numbers from 0 up."""
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)


def _check_layout(tensors: Mapping[str, StoredTensor], start: int, size: int) -> None:
    """The tensors' bytes follow each other to the end of the file. Raises ValueError."""
    for name, tensor in tensors.items():
        if tensor.start != start:
            raise ValueError(f"{name} does not begin where the data before it ends")
        start = tensor.end
    if start != size:
        raise ValueError(f"the tensors end at byte {start}, the file at {size}")
