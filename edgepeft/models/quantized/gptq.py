"""Checkpoints of GPTQ (https://arxiv.org/abs/2210.17323) as AutoGPTQ and GPTQModel write them.

A weight [N, K] in groups of g inputs is stored, under its module's name, as ``qweight``, int32
[K * bits / 32, N], codes packed along K; ``qzeros``, int32 [groups, N * bits / 32], packed along N; ``scales``
[groups, N]; and ``g_idx``, int32 [K], the group of each input, which act-order (``desc_act``) shuffles. A weight
is ``scale * (code - zero)``. Version 1 of the format stores each zero less one, version 2 (``gptq_v2``) as it is.
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

_BITS = (2, 3, 4, 8)
_OFFSETS = {"gptq": 1, "gptq_v2": 0}
"""What the zeros of each version of the format lack."""
_WORD = 32


@dataclass(frozen=True)
class GptqWeight(QuantizedWeight):
    """``zero_offset`` is added to the zeros that are stored; ``group_size`` counts the inputs of a group where no
    index says which is in which.
    """

    bits: int
    group_size: int
    zero_offset: int

    def dequantized(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """See QuantizedWeight. Raises ValueError for zeros that readers of version 1 disagree about."""
        import torch

        rows, width = self.shape
        codes = unpacked(parts["qweight"].T.contiguous(), self.bits)
        zeros = unpacked(parts["qzeros"], self.bits)[:, :rows].T.to(torch.int32)
        if self.zero_offset and bool((zeros == (1 << self.bits) - 1).any()):
            # Taken for a borrow from the next zero, for 0 or for one more than the largest, by reader.
            raise ValueError(
                "stores a zero of the largest code less one, which readers of the gptq format (version 1) take "
                "for different numbers; save it as gptq_v2"
            )
        if "g_idx" in parts:
            group = parts["g_idx"].long()
        else:
            group = torch.arange(width) // self.group_size
        found = codes.to(torch.float32)
        found -= (zeros + self.zero_offset).to(torch.float32)[:, group]
        found *= parts["scales"].T.to(torch.float32)[:, group]
        return found


def read(stored: Stored) -> Rounded:
    """Every weight that GPTQ rounded. Raises InputError."""
    bits, size = stored.number("bits"), stored.number("group_size")
    if bits not in _BITS:
        raise stored.refused(
            "bits", f"{bits} is not supported; supported: {', '.join(map(str, _BITS))}"
        )
    if size < 1 and size != -1:
        raise stored.refused("group_size", f"{size} is neither positive nor -1 (one group)")
    key = "checkpoint_format" if stored.said.get("checkpoint_format") else "format"
    version = str(stored.said.get(key) or "gptq")
    if stored.said.get("is_marlin_format"):
        key, version = "is_marlin_format", "marlin"
    if version not in _OFFSETS:
        raise stored.refused(
            key, f"{version} packing is not supported; supported: {', '.join(_OFFSETS)}"
        )
    stored.orphans(("qzeros", "scales", "g_idx"), "qweight")
    weights = {
        f"{module}.weight": _weight(stored, module, bits, size, _OFFSETS[version])
        for module in stored.modules("qweight")
    }
    return Rounded(stored.method, weights)


def _weight(stored: Stored, module: str, bits: int, size: int, offset: int) -> GptqWeight:
    parts = {part: f"{module}.{part}" for part in ("qweight", "qzeros", "scales", "g_idx")}
    packed, rows = stored.require(parts["qweight"], 2, "I32")
    groups, _ = stored.require(parts["scales"], 2, *FLOATS)
    stored.require(parts["qzeros"], 2, "I32")
    if parts["g_idx"] in stored.tensors or stored.said.get("desc_act"):
        # With act-order nobody else knows which group an input is in.
        (width,) = stored.require(parts["g_idx"], 1, "I32", "I64")
    else:
        width = packed * _WORD // bits
        del parts["g_idx"]
    if stored.said.get("dynamic"):
        # Modules have settings of their own, which their shapes say.
        bits, size = packed * _WORD // max(1, width), -(-width // max(1, groups))
    if bits not in _BITS or width % _WORD or rows % _WORD:
        raise InputError(
            f"{stored.path}: {parts['qweight']} is {(packed, rows)}, which is no weight of {width} inputs that "
            f"{stored.method} packs"
        )
    size = width if size == -1 else size
    stored.hold(parts["qweight"], (width * bits // _WORD, rows), f"{width} inputs of {bits} bits")
    stored.hold(parts["scales"], (-(-width // size), rows), f"{width} inputs in groups of {size}")
    stored.hold(
        parts["qzeros"], (groups, rows * bits // _WORD), f"{groups} groups of {rows} outputs"
    )
    if "g_idx" in parts:
        stored.groups(parts["g_idx"], groups)
    return GptqWeight((rows, width), f"INT{bits}", parts, bits, size, offset)
