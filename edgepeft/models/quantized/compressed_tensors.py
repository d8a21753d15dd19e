"""Checkpoints in the formats of compressed-tensors (https://github.com/vllm-project/compressed-tensors).

``pack-quantized`` stores a weight [N, K], under its module's name, as ``weight_packed``, int32
[N, K * bits / 32], codes less their smallest packed along K; ``weight_shape``, int64 [2]; ``weight_scale``
[N, groups]; where it is asymmetric ``weight_zero_point``, int32 [N * bits / 32, groups], packed along N; with
act-order ``weight_g_idx``, int32 [K], the group of each input. ``float-quantized`` and ``int-quantized`` store
the codes under the weight's own name, float8 or int8, and ``weight_scale``. ``config_groups`` say which modules
are rounded how.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgepeft.errors import InputError
from edgepeft.models.quantized.fp8 import TYPES
from edgepeft.models.quantized.scaled import scaled_weight
from edgepeft.models.quantized.stored import FLOATS, Rounded, Stored
from edgepeft.models.quantized.weight import QuantizedWeight, unpacked

if TYPE_CHECKING:
    import torch

_PACKED, _PLAIN = "pack-quantized", ("float-quantized", "int-quantized", "naive-quantized")
_BITS = (2, 4, 8)
_WORD = 32
_CODES = {**TYPES, "I8": "INT8"}
_STRATEGIES = ("tensor", "channel", "group", "block")
_BESIDE = ("weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx")
_OF_ACTIVATIONS = (
    *("input_scale", "input_zero_point", "output_scale", "output_zero_point"),
    *("k_scale", "v_scale", "q_scale", "k_zero_point", "v_zero_point", "q_zero_point"),
)
"""What belongs to rounded activations and caches, which weights don't need."""


@dataclass(frozen=True)
class _Scheme:
    """How a group of modules is rounded: the ``weights`` of one of ``config_groups``."""

    bits: int
    strategy: str
    group_size: int | None
    block: tuple[int, int] | None
    symmetric: bool


_Maker = Callable[[Stored, str, _Scheme], QuantizedWeight]


@dataclass(frozen=True)
class PackedWeight(QuantizedWeight):
    """``bits`` of a code, and ``group_size``, the inputs that share a scale."""

    bits: int
    group_size: int

    def dequantized(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """See QuantizedWeight."""
        import torch

        rows, width = self.shape
        found = unpacked(parts["packed"], self.bits)[:, :width].to(torch.float32)
        group = (
            parts["index"].long() if "index" in parts else torch.arange(width) // self.group_size
        )
        smallest = float(1 << (self.bits - 1))
        if "zero" not in parts:
            found -= smallest
        elif parts["zero"].dtype == torch.int8:
            found -= (parts["zero"].to(torch.float32) + smallest)[:, group]
        else:
            # Codes and zeros are kept less the same smallest code, so it cancels.
            zeros = unpacked(parts["zero"].T.contiguous(), self.bits)[:, :rows].T
            found -= zeros.to(torch.float32)[:, group]
        scale = parts["scale"].to(torch.float32)
        found *= scale.reshape(-1, scale.shape[-1] if scale.ndim else 1)[:, group]
        return found


def read(stored: Stored) -> Rounded:
    """Every weight that compressed-tensors stores rounded. Raises InputError."""
    form = stored.said.get("format")
    if form is None:
        raise stored.refused("format", "is missing, so nothing says how to read the weights")
    if form != _PACKED and form not in _PLAIN:
        raise stored.refused(
            "format", f"{form} is not supported; supported: {', '.join((_PACKED, *_PLAIN))}"
        )
    sparse = stored.said.get("sparsity_config")
    if isinstance(sparse, Mapping) and sparse.get("format", "dense") != "dense":
        raise stored.refused("sparsity_config", f"{sparse.get('format')} is not supported")
    transform = stored.said.get("transform_config")
    if isinstance(transform, Mapping) and transform.get("config_groups"):
        # Its weights were rotated before they were rounded, and the model rotates what goes into them.
        raise stored.refused("transform_config", "weights under a transform are not supported")
    schemes = _schemes(stored)
    codes, first, made = "weight", "weight_scale", _plain
    if form == _PACKED:
        codes, first, made = "weight_packed", "weight_packed", _packed
    stored.orphans(_BESIDE, codes)
    weights: dict[str, QuantizedWeight] = {}
    for module in stored.modules(first):
        weights[f"{module}.weight"] = _fitting(stored, module, schemes, made)
    for name, (_, tensor) in stored.tensors.items():
        if tensor.dtype in _CODES and name.endswith(".weight") and name not in weights:
            raise InputError(f"{stored.path}: lacks {name}_scale; the checkpoint is not whole")
    # The zero of FP8 is none, whether it is stored or not.
    ends = (*_OF_ACTIVATIONS, "weight_zero_point")
    unread = {name for name in stored.tensors if name.rpartition(".")[2] in ends}
    return Rounded(stored.method, weights, frozenset(unread))


def _schemes(stored: Stored) -> list[_Scheme]:
    groups = stored.said.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        raise stored.refused("config_groups", "is missing, so nothing says how to read the weights")
    return [_scheme(stored, f"config_groups.{name}", group) for name, group in groups.items()]


def _scheme(stored: Stored, key: str, group: Any) -> _Scheme:
    said = group.get("weights") if isinstance(group, Mapping) else None
    if not isinstance(said, Mapping):
        raise stored.refused(key, "lacks weights, so nothing says how they are rounded")
    if group.get("format") not in (None, stored.said["format"]):
        raise stored.refused(
            f"{key}.format", f"{group['format']} beside {stored.said['format']} is not supported"
        )
    bits, size = said.get("num_bits"), said.get("group_size")
    strategy = said.get("strategy") or _strategy_by(size)
    if type(bits) is not int:
        raise stored.refused(f"{key}.weights.num_bits", "is missing or no whole number")
    if strategy not in _STRATEGIES:
        raise stored.refused(f"{key}.weights.strategy", f"{strategy} is not supported")
    if strategy == "group" and (type(size) is not int or size < 1):
        raise stored.refused(f"{key}.weights.group_size", "is missing or no positive whole number")
    block = said.get("block_structure")
    if strategy == "block":
        if not (
            isinstance(block, list)
            and len(block) == 2
            and all(type(n) is int and n > 0 for n in block)
        ):
            raise stored.refused(
                f"{key}.weights.block_structure", f"{block!r} is no block of rows and columns"
            )
        block = (block[0], block[1])
    else:
        block = None
    return _Scheme(bits, str(strategy), size, block, said.get("symmetric") is not False)


def _strategy_by(size: Any) -> str:
    """What a silent configuration means by a group size."""
    if type(size) is not int:
        return "tensor"
    return "channel" if size == -1 else "group"


def _fitting(
    stored: Stored, module: str, schemes: Sequence[_Scheme], made: _Maker
) -> QuantizedWeight:
    """The weight by the first scheme that its tensors fit.

    Which scheme is a module's is said by patterns, which a file from elsewhere may make endless; the shapes of
    codes and scales say the same.
    """
    zeros = f"{module}.weight_zero_point" in stored.tensors
    likely = [scheme for scheme in schemes if scheme.symmetric != zeros] or schemes
    failed: InputError | None = None
    for scheme in likely:
        try:
            return made(stored, module, scheme)
        except InputError as error:
            failed = failed or error
    assert failed is not None
    raise failed


def _packed(stored: Stored, module: str, scheme: _Scheme) -> QuantizedWeight:
    bits = scheme.bits
    if bits not in _BITS:
        raise stored.refused(
            "config_groups", f"num_bits {bits} of {module} is not supported: {_BITS} are"
        )
    parts = {"packed": f"{module}.weight_packed", "scale": f"{module}.weight_scale"}
    shape = f"{module}.weight_shape"
    stored.require(shape, 1, "I64", "I32")
    stored.hold(shape, (2,), "its format")
    rows, width = stored.whole_numbers(shape)
    parts["shape"] = shape
    what = f"a weight {(rows, width)} in {bits} bits"
    stored.require(parts["packed"], 2, "I32")
    stored.hold(parts["packed"], (rows, -(-width * bits // _WORD)), what)
    found = stored.require(parts["scale"], None, *FLOATS)
    size = scheme.group_size if scheme.strategy == "group" and scheme.group_size else width
    groups = -(-width // size)
    tall = 1 if scheme.strategy == "tensor" else rows
    if found not in ((tall, groups), *(((1,), ()) if scheme.strategy == "tensor" else ())):
        stored.hold(parts["scale"], (tall, groups), f"{what} and groups of {size}")
    if not scheme.symmetric or f"{module}.weight_zero_point" in stored.tensors:
        parts["zero"] = f"{module}.weight_zero_point"
        stored.require(parts["zero"], 2, "I32", "I8")
        # Earlier releases did not pack them.
        packs = stored.tensors[parts["zero"]][1].dtype == "I32"
        count = -(-rows * bits // _WORD) if packs else rows
        stored.hold(parts["zero"], (count, groups), f"{what} and groups of {size}")
    if (index := f"{module}.weight_g_idx") in stored.tensors:
        stored.require(index, 1, "I32", "I64")
        stored.hold(index, (width,), what)
        stored.groups(index, groups)
        parts["index"] = index
    return PackedWeight((rows, width), f"INT{bits}", parts, bits, size)


def _plain(stored: Stored, module: str, scheme: _Scheme) -> QuantizedWeight:
    if scheme.strategy == "group":
        raise stored.refused(
            "config_groups", f"strategy group of {module} is not supported unpacked"
        )
    parts = {"codes": f"{module}.weight", "scale": f"{module}.weight_scale"}
    found = scaled_weight(stored, parts, scheme.block, _CODES)
    zero = f"{module}.weight_zero_point"
    if found.label == _CODES["I8"] and (not scheme.symmetric or zero in stored.tensors):
        stored.require(zero, 2, "I8")
        stored.hold(zero, (found.shape[0], 1), "one zero a row")
        found = replace(found, parts={**parts, "zero": zero})
    return found
