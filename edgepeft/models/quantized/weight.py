"""A weight that a checkpoint stores as codes and scales, and how codes lie in words."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_WORD = 32
"""Bits of the words that codes are packed into."""


@dataclass(frozen=True)
class QuantizedWeight(ABC):
    """A rounded weight of a linear layer.

    ``shape`` is [N, K], what the layer gives and takes; ``label`` names its numbers for people, as INT4.
    ``parts`` are the names of the tensors that it is stored in, by what its format calls them.
    """

    shape: tuple[int, int]
    label: str
    parts: Mapping[str, str]

    @abstractmethod
    def dequantized(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Codes times scales in float32 [N, K]; ``parts`` are the stored tensors by the format's names.

        Raises ValueError for values that have no meaning.
        """


def unpacked(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes of ``bits`` bits out of int32 words [..., W], lowest bits first: uint8 [..., W * 32 / bits].

    A code may begin in one word and end in the next (3 bits): words are one stream of bits.
    """
    import torch

    unit = bits // math.gcd(bits, _WORD)
    each = _WORD * unit // bits
    grouped = words.reshape(*words.shape[:-1], words.shape[-1] // unit, unit)
    codes = torch.empty((*grouped.shape[:-1], each), dtype=torch.uint8, device=words.device)
    for index in range(each):
        word, shift = divmod(index * bits, _WORD)
        here = min(bits, _WORD - shift)
        # The mask takes off what an arithmetic shift brings in from the sign.
        code = (grouped[..., word] >> shift) & ((1 << here) - 1)
        if here < bits:
            code |= (grouped[..., word + 1] & ((1 << (bits - here)) - 1)) << here
        codes[..., index] = code.to(torch.uint8)
    return codes.reshape(*words.shape[:-1], -1)
