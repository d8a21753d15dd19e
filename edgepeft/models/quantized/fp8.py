"""Checkpoints in FP8 as DeepSeek-V3 and Qwen3-FP8 are published (transformers' ``FineGrainedFP8Config``).

A weight [N, K] is stored as float8 under its own name, and beside it ``weight_scale_inv``, which, despite its
name, the codes are multiplied with: one for each block of ``weight_block_size``, or, without that, one a row or
one for all.
"""

from __future__ import annotations

from edgepeft.errors import InputError
from edgepeft.models.quantized.scaled import scaled_weight
from edgepeft.models.quantized.stored import Rounded, Stored
from edgepeft.models.quantized.weight import QuantizedWeight

TYPES = {"F8_E4M3": "FP8_E4M3", "F8_E5M2": "FP8_E5M2"}
"""Types of codes, and what people call them."""
_SCALES = ("weight_scale_inv", "weight_scale", "qscale_weight")
_OF_ACTIVATIONS = ("activation_scale", "input_scale", "qscale_act")
"""Scales of activations, which only kernels round."""


def read(stored: Stored) -> Rounded:
    """Every FP8 weight. Raises InputError."""
    block = _block_size(stored)
    exponents = stored.said.get("scale_fmt") == "ue8m0"
    weights: dict[str, QuantizedWeight] = {}
    unread = {name for name in stored.tensors if name.rpartition(".")[2] in _OF_ACTIVATIONS}
    scales = {
        name.rpartition(".")[0]: name
        for name in stored.tensors
        if name.rpartition(".")[2] in _SCALES
    }
    for name, (_, tensor) in stored.tensors.items():
        if tensor.dtype not in TYPES:
            continue
        module = name.removesuffix(".weight")
        if module not in scales:
            raise InputError(
                f"{stored.path}: lacks {module}.{_SCALES[0]}; the checkpoint is not whole"
            )
        parts = {"codes": name, "scale": scales[module]}
        weights[name] = scaled_weight(stored, parts, block, TYPES, exponents=exponents)
    for module, scale in scales.items():
        if f"{module}.weight" not in weights:
            raise InputError(f"{stored.path}: holds {scale}, and no FP8 codes in {module}.weight")
    if not weights:
        raise InputError(
            f"{stored.path}: its config.json says that its weights are {stored.method}'s, and it holds none in "
            "FP8"
        )
    return Rounded(stored.method, weights, frozenset(unread))


def _block_size(stored: Stored) -> tuple[int, int] | None:
    said = stored.said.get("weight_block_size")
    if said is None:
        return None
    if not (
        isinstance(said, list) and len(said) == 2 and all(type(n) is int and n > 0 for n in said)
    ):
        raise stored.refused("weight_block_size", f"{said!r} is no block of rows and columns")
    return said[0], said[1]
