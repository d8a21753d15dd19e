"""Blockwise integer grids and their packed form, as ONNX Runtime's contrib operators read them.

A weight [N, K] is cut along K into blocks of ``block_size`` weights that share a scale and, on an asymmetric
grid, a zero point: ``weight = (code - zero_point) * scale``. The packing is that of MatMulNBits (and of
GatherBlockQuantized, which reads the same bytes): codes [N, blocks, block_size*bits/8] with the earlier weight in
the low bits, zero points [N, ceil(blocks*bits/8)] packed alike; without them the zero point is ``2**(bits-1)``
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class IntGrid:
    """An integer grid of 4 or 8 bits."""

    bits: int
    block_size: int
    symmetric: bool

    @property
    def top(self) -> int:
        """The largest code; the smallest is 0."""
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """The zero point of a symmetric block."""
        return 1 << (self.bits - 1)

    def blocks(self, width: int) -> int:
        """Blocks in a row of ``width`` weights; the last may be padded."""
        return -(-width // self.block_size)

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> IntGrid:
        """Read back ``as_dict``."""
        return cls(**value)

    def shapes(self, rows: int, width: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the packed parts of a weight [rows, width], by part name."""
        blocks = self.blocks(width)
        parts: dict[str, tuple[int, ...]] = {
            "codes": (rows, blocks, self.block_size * self.bits // 8),
            "scales": (rows, blocks),
        }
        if not self.symmetric:
            parts["zero_points"] = (rows, -(-blocks * self.bits // 8))
        return parts


@dataclass(frozen=True)
class BlockCodes:
    """A rounded weight, unpacked.

    ``codes`` uint8 [N, blocks, block_size] in 0..top; ``scales`` float32 [N, blocks]; ``zero_points`` uint8
    [N, blocks], or None on a symmetric grid.
    """

    grid: IntGrid
    width: int
    codes: torch.Tensor
    scales: torch.Tensor
    zero_points: torch.Tensor | None

    def dequantize(self) -> torch.Tensor:
        """The weights the codes stand for, float32 [N, K]."""
        zero: torch.Tensor | int = self.grid.middle
        if self.zero_points is not None:
            zero = self.zero_points.to(torch.float32)[..., None]
        values = (self.codes.to(torch.float32) - zero) * self.scales[..., None]
        return values.reshape(values.shape[0], -1)[:, : self.width].contiguous()

    def packed(self) -> dict[str, torch.Tensor]:
        """The parts as the operators read them: ``codes``, ``scales`` and ``zero_points`` if there are any."""
        parts = {"codes": pack(self.codes, self.grid.bits), "scales": self.scales}
        if self.zero_points is not None:
            parts["zero_points"] = pack(self.zero_points, self.grid.bits)
        return parts


def settle(scales: torch.Tensor) -> torch.Tensor:
    """Scales float32 rounded to half precision, if that holds every one of them to its full precision."""
    sizes, limits = scales.abs(), torch.finfo(torch.float16)
    fit = (sizes >= limits.tiny).all() and (sizes <= limits.max).all()
    return scales.half().float() if fit else scales


def are_half(scales: torch.Tensor) -> bool:
    """Whether scales lose nothing in half precision, so that a bundle can keep them in it."""
    return bool((scales.half().float() == scales).all())


def pack(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Pack uint8 codes along the last axis, the earlier code in the low bits; an odd end is padded with 0."""
    if bits == 8:
        return codes.contiguous()
    if codes.shape[-1] % 2:
        codes = torch.nn.functional.pad(codes, (0, 1))
    return codes[..., 0::2] | (codes[..., 1::2] << 4)


def unpack(packed: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """Undo ``pack``: the first ``count`` codes along the last axis."""
    if bits == 8:
        return packed[..., :count].contiguous()
    both = torch.stack([packed & 0xF, packed >> 4], dim=-1)
    return both.reshape(*packed.shape[:-1], -1)[..., :count].contiguous()


def unpack_weight(grid: IntGrid, width: int, parts: Mapping[str, torch.Tensor]) -> BlockCodes:
    """Read packed parts back."""
    zero_points = parts.get("zero_points")
    return BlockCodes(
        grid=grid,
        width=width,
        codes=unpack(parts["codes"], grid.bits, grid.block_size),
        scales=parts["scales"],
        zero_points=None
        if zero_points is None
        else unpack(zero_points, grid.bits, grid.blocks(width)),
    )


def into_blocks(weight: torch.Tensor, grid: IntGrid) -> torch.Tensor:
    """Cut a float32 weight [N, K] into [N, blocks, block_size], the last block padded with zeros."""
    rows, width = weight.shape
    padding = grid.blocks(width) * grid.block_size - width
    if padding:
        weight = torch.nn.functional.pad(weight, (0, padding))
    return weight.reshape(rows, -1, grid.block_size)
