"""Checkpoints of AWQ (https://arxiv.org/abs/2306.00978) in AutoAWQ's ``gemm`` packing.

A weight [N, K] in groups of g inputs is stored, under its module's name, as ``qweight``, int32 [K, N / 8];
``qzeros``, int32 [groups, N / 8]; and ``scales`` [groups, N]. A word holds the codes of eight outputs, those of
even number first (0, 2, 4, 6, 1, 3, 5, 7). A weight is ``scale * (code - zero)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepeft.errors import InputError
from edgepeft.models.quantized.stored import FLOATS, Rounded, Stored
from edgepeft.models.quantized.weight import QuantizedWeight, unpacked

if TYPE_CHECKING:
    import torch

_BITS = 4
_EACH = 8
"""Codes in a word."""
_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where in a word the code of each output lies."""


@dataclass(frozen=True)
class AwqWeight(QuantizedWeight):
    """``group_size`` counts the inputs that share a scale and a zero."""

    group_size: int

    def dequantized(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """See QuantizedWeight."""
        import torch

        group = torch.arange(self.shape[1]) // self.group_size
        found = _in_order(parts["qweight"]).T.to(
            torch.float32, memory_format=torch.contiguous_format
        )
        found -= _in_order(parts["qzeros"]).T.to(torch.float32)[:, group]
        found *= parts["scales"].T.to(torch.float32)[:, group]
        return found


def _in_order(words: torch.Tensor) -> torch.Tensor:
    """Codes of int32 words [R, W] in the order of the outputs: uint8 [R, 8 W]."""
    codes = unpacked(words, _BITS).reshape(*words.shape, _EACH)
    return codes[..., list(_PLACES)].reshape(words.shape[0], -1)


def read(stored: Stored) -> Rounded:
    """Every weight that AWQ rounded. Raises InputError."""
    bits = stored.number("bits", "w_bit")
    size = stored.number("group_size", "q_group_size")
    if bits != _BITS:
        raise stored.refused("bits", f"{bits} is not supported, only {_BITS}")
    if size < 1 and size != -1:
        raise stored.refused("group_size", f"{size} is neither positive nor -1 (one group)")
    if stored.said.get("zero_point") is False:
        raise stored.refused("zero_point", "false is not supported")
    key = "version" if stored.said.get("version") else "format"
    version = str(stored.said.get(key) or "gemm").lower()
    if version != "gemm":
        raise stored.refused(key, f"{version} packing is not supported, only gemm")
    stored.orphans(("qzeros", "scales"), "qweight")
    weights = {
        f"{module}.weight": _weight(stored, module, size) for module in stored.modules("qweight")
    }
    return Rounded(stored.method, weights)


def _weight(stored: Stored, module: str, size: int) -> AwqWeight:
    parts = {part: f"{module}.{part}" for part in ("qweight", "qzeros", "scales")}
    width, words = stored.require(parts["qweight"], 2, "I32")
    stored.require(parts["scales"], 2, *FLOATS)
    stored.require(parts["qzeros"], 2, "I32")
    size = width if size == -1 else size
    if width % size:
        raise InputError(
            f"{stored.path}: {parts['qweight']} has {width} inputs, no multiple of groups of {size}"
        )
    what = f"a weight of {width} inputs and {words * _EACH} outputs in groups of {size}"
    stored.hold(parts["scales"], (width // size, words * _EACH), what)
    stored.hold(parts["qzeros"], (width // size, words), what)
    return AwqWeight((words * _EACH, width), "INT4", parts, size)
