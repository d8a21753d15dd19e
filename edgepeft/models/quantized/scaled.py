"""Weights whose codes are numbers by themselves (FP8, int8), under one scale, one a row, or one a block.

Block scales are those of DeepSeek-V3 (https://arxiv.org/abs/2412.19437, section 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepeft.errors import InputError
from edgepeft.models.quantized.stored import FLOATS, Stored
from edgepeft.models.quantized.weight import QuantizedWeight

if TYPE_CHECKING:
    import torch

EXPONENTS = ("F8_E8M0", "U8")
"""Types of scales that are powers of two, kept as their exponent plus 127 (OCP Microscaling formats, 5.4.1)."""
_BIAS = 127.0


@dataclass(frozen=True)
class ScaledWeight(QuantizedWeight):
    """Codes [N, K] under ``codes``, what they are multiplied with under ``scale``, zeros [N, 1] under ``zero``.

    ``block`` is the block that shares a scale, [rows, columns].
    """

    block: tuple[int, int]

    def dequantized(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """See QuantizedWeight."""
        import torch

        (rows, width), (tall, wide) = self.shape, self.block
        scale = parts["scale"]
        if scale.dtype == torch.uint8:
            scale = (scale.to(torch.float32) - _BIAS).exp2()
        scale = scale.to(torch.float32).reshape(-(-rows // tall), -(-width // wide))
        found = parts["codes"].to(torch.float32)
        if "zero" in parts:
            found -= parts["zero"].to(torch.float32)
        # Whole blocks of rows share scales, so no grid of them as large as the weight is made.
        columns = torch.arange(width) // wide
        for index in range(scale.shape[0]):
            found[index * tall : (index + 1) * tall] *= scale[index][columns]
        return found


def scaled_weight(
    stored: Stored,
    names: Mapping[str, str],
    block: tuple[int, int] | None,
    types: Mapping[str, str],
    *,
    exponents: bool = False,
) -> ScaledWeight:
    """A weight stored under ``names``: one scale, one a row, or where ``block`` is given one a block.

    ``types`` are the types of codes and what people call them; with ``exponents`` a scale may be a power of two.
    Raises InputError.
    """
    rows, width = stored.require(names["codes"], 2, *types)
    kinds = (*FLOATS, *EXPONENTS) if exponents else FLOATS
    shape = stored.require(names["scale"], None, *kinds)
    found = _block((rows, width), shape, block)
    if found is None:
        by = (
            "scale for all, or one a row"
            if block is None
            else f"scale for each {block[0]} by {block[1]} block"
        )
        raise InputError(
            f"{stored.path}: {names['scale']} is {shape}, and {names['codes']} is {(rows, width)}, which calls "
            f"for one {by}"
        )
    return ScaledWeight((rows, width), types[stored.tensors[names["codes"]][1].dtype], names, found)


def _block(
    weight: tuple[int, int], scale: tuple[int, ...], block: tuple[int, int] | None
) -> tuple[int, int] | None:
    """The block that shares a scale of so many, None where the two don't fit."""
    rows, width = weight
    if block is not None:
        grid = (-(-rows // block[0]), -(-width // block[1]))
        return block if scale == grid else None
    if scale in ((), (1,), (1, 1)):
        return weight
    return (1, width) if scale in ((rows,), (rows, 1)) else None
