"""A checkpoint as the reader of a format sees it, with the errors that all formats share."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from edgepeft.errors import InputError
from edgepeft.models.quantized.weight import QuantizedWeight
from edgepeft.models.safetensors_header import StoredTensor

Tensors = Mapping[str, tuple[Path, StoredTensor]]
"""File and header of each tensor, by name."""
FLOATS = ("F32", "F16", "BF16")
"""Types of scales."""
_CHARS = {"I32": "i", "I64": "q"}


class TrainedGrid(NamedTuple):
    """A grid that QLoRA trains on, and whose codes a lossless target carries; ``block_size`` weights share a
    scale.
    """

    grid: Literal["nf4", "fp4"]
    block_size: int


@dataclass(frozen=True)
class Rounded:
    """What a checkpoint holds rounded: ``weights`` by the name that the model has for them.

    ``unread`` names tensors that no weight needs, as scales of activations. ``method`` is the checkpoint's
    ``quant_method``; ``grid`` is that of all weights where it is one that is trained on, None for others.
    """

    method: str
    weights: Mapping[str, QuantizedWeight]
    unread: frozenset[str] = frozenset()
    grid: TrainedGrid | None = None

    @property
    def beside(self) -> frozenset[str]:
        """Every stored tensor that is no weight of the model by itself."""
        parts = (part for weight in self.weights.values() for part in weight.parts.values())
        return self.unread.union(parts)


@dataclass(frozen=True)
class Stored:
    """A checkpoint's folder, its ``quant_method``, the rest of its ``quantization_config``, and its tensors."""

    path: Path
    method: str
    said: Mapping[str, Any]
    tensors: Tensors

    def refused(self, key: str, why: str) -> InputError:
        """The error for a key of the configuration."""
        return InputError(
            f"{self.path / 'config.json'}: quantization_config.{key}: {why}; start from the full-precision "
            "checkpoint"
        )

    def number(self, *keys: str) -> int:
        """A whole number of the configuration under the first of ``keys`` that it has. Raises InputError."""
        key = next((key for key in keys if self.said.get(key) is not None), None)
        if key is None:
            raise self.refused(keys[0], "is missing, so nothing says how to read the weights")
        value = self.said[key]
        if type(value) is not int:
            raise self.refused(key, f"{value!r} is no whole number")
        return value

    def modules(self, part: str) -> list[str]:
        """Modules that have a tensor ``part``, in the files' order. Raises InputError where there are none."""
        end = f".{part}"
        found = [name.removesuffix(end) for name in self.tensors if name.endswith(end)]
        if not found:
            raise InputError(
                f"{self.path}: its config.json says that its weights are {self.method}'s, and it holds no {part}"
            )
        return found

    def require(self, name: str, rank: int | None, *dtypes: str) -> tuple[int, ...]:
        """The shape of a tensor of one of ``dtypes`` and, unless None, of so many axes.

        Raises InputError where it is missing or another.
        """
        if name not in self.tensors:
            raise InputError(f"{self.path}: lacks {name}; the checkpoint is not whole")
        found = self.tensors[name][1]
        if found.dtype not in dtypes:
            raise InputError(
                f"{self.path}: {name} is {found.dtype}, and {self.method} stores {' or '.join(dtypes)} there"
            )
        if rank is not None and len(found.shape) != rank:
            raise InputError(
                f"{self.path}: {name} is {found.shape}, and {self.method} has {rank} axes there"
            )
        return found.shape

    def hold(self, name: str, shape: tuple[int, ...], why: str) -> None:
        """Raise InputError where a tensor has another shape than others call for."""
        found = self.tensors[name][1].shape
        if found != shape:
            raise InputError(f"{self.path}: {name} is {found}, and {why} calls for {shape}")

    def orphans(self, parts: Sequence[str], codes: str) -> None:
        """Raise InputError for ``parts`` of a module that has no tensor ``codes``."""
        for name in self.tensors:
            module, _, part = name.rpartition(".")
            if part in parts and f"{module}.{codes}" not in self.tensors:
                raise InputError(
                    f"{self.path}: holds {name}, and no {module}.{codes}; the checkpoint is not whole"
                )

    def whole_numbers(self, name: str) -> tuple[int, ...]:
        """The values of a small tensor of whole numbers, int32 or int64. Raises InputError."""
        tensor = self.tensors[name][1]
        return struct.unpack(f"<{tensor.elements}{_CHARS[tensor.dtype]}", self.content(name))

    def content(self, name: str) -> bytes:
        """The bytes of a small tensor."""
        file, tensor = self.tensors[name]
        with file.open("rb") as stream:
            stream.seek(tensor.start)
            return stream.read(tensor.end - tensor.start)

    def groups(self, name: str, groups: int) -> None:
        """Raise InputError where the index ``name`` names a group that is not among ``groups``."""
        outside = [one for one in self.whole_numbers(name) if not 0 <= one < groups]
        if outside:
            raise InputError(
                f"{self.path}: {name} names group {outside[0]}, and the weight has {groups} groups"
            )
