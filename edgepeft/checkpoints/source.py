"""The lazy tensor source: an ordered mapping from name to shape, dtype and a function that yields the tensor.

Reading a checkpoint makes a source; merging and quantizing wrap one; a writer drains one. Memory is that of the
largest single tensor, whatever the model's depth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class TensorSpec:
    """What is known of a tensor before it is read."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Bytes the tensor takes, unpadded."""
        return math.prod(self.shape) * int(self.dtype.itemsize)


class TensorSource(Protocol):
    """Names in a fixed order, their specs at once, their values one at a time."""

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Spec of every tensor, in the source's order."""
        ...

    def load(self, name: str) -> torch.Tensor:
        """The tensor's value, in the shape and dtype of its spec; the caller may keep it, the source does not.

        Raises KeyError.
        """
        ...


class ComputedSource:
    """A source whose tensors are computed by a function of their name."""

    def __init__(
        self, specs: Mapping[str, TensorSpec], compute: Callable[[str], torch.Tensor]
    ) -> None:
        self._specs = dict(specs)
        self._compute = compute

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Spec of every tensor, in the source's order."""
        return self._specs

    def load(self, name: str) -> torch.Tensor:
        """Compute the tensor and hold it to its spec. Raises KeyError, ValueError."""
        spec = self._specs[name]
        tensor = self._compute(name)
        if tuple(tensor.shape) != spec.shape or tensor.dtype != spec.dtype:
            raise ValueError(
                f"{name}: computed as {tuple(tensor.shape)} {tensor.dtype}, "
                f"announced as {spec.shape} {spec.dtype}"
            )
        return tensor

    def same(self, first: str, second: str) -> bool:
        """Whether two tensors have the same type and values. Raises KeyError."""
        if self._specs[first] != self._specs[second]:
            return False
        alike: bool = torch.equal(self.load(first), self.load(second))
        return alike
