"""The grid an adapter was trained on, and weights put through it.

QLoRA (https://arxiv.org/abs/2305.14314) trains against weights that were rounded to NF4 and back. An adapter has
learned to correct exactly those, so they are the base to merge into. The rounding is bitsandbytes' own, computed
from the checkpoint: a live module may hold repacked weights with rounded scales.
"""

from __future__ import annotations

from collections.abc import Collection

import torch

from edgepeft.adapters.provenance import TrainingGrid
from edgepeft.checkpoints.source import ComputedSource, TensorSource, TensorSpec
from edgepeft.errors import InputError


def through_grid(weight: torch.Tensor, grid: TrainingGrid) -> torch.Tensor:
    """Round a float32 weight [out, in] to the grid and back; returns float32 of the same shape."""
    if grid.kind == "none":
        return weight
    from bitsandbytes import functional

    if grid.kind == "int8":
        # LLM.int8() reads weights in half precision and keeps one scale a row (https://arxiv.org/abs/2208.07339).
        rows, scales, _ = functional.int8_vectorwise_quant(weight.to(torch.float16).contiguous())
        return rows.to(torch.float32) * (scales.to(torch.float32)[:, None] / 127.0)
    codes, state = functional.quantize_4bit(
        weight.to(torch.float32).contiguous(),
        blocksize=grid.block_size,
        compress_statistics=grid.double_quant,
        quant_type=grid.kind,
    )
    rounded: torch.Tensor = functional.dequantize_4bit(codes, state)
    return rounded.reshape(weight.shape).to(torch.float32)


def grid_codes(weight: torch.Tensor, grid: TrainingGrid) -> tuple[torch.Tensor, torch.Tensor]:
    """bitsandbytes' own codes of a float32 weight [N, K] and their scales.

    Codes uint8 [N, K/2], the earlier weight in the high bits; scales float32 [N, K / block_size], nested (double)
    quantization undone by bitsandbytes' own formula. The width must be a multiple of the block
    size. Raises InputError for grids that are not of 4 bits.
    """
    from bitsandbytes import functional

    if grid.kind not in ("nf4", "fp4"):
        raise InputError(
            f"a lossless target carries 4-bit codes, and this adapter was trained on {grid.kind}; choose cpu-fp32"
        )
    rows, width = weight.shape
    codes, state = functional.quantize_4bit(
        weight.to(torch.float32).contiguous(),
        blocksize=grid.block_size,
        compress_statistics=grid.double_quant,
        quant_type=grid.kind,
    )
    scales = state.absmax
    if state.nested:
        scales = functional.dequantize_blockwise(state.absmax, state.state2) + state.offset
    return codes.reshape(rows, width // 2), scales.float().reshape(rows, width // grid.block_size)


def dequantized(
    source: TensorSource, grid: TrainingGrid, quantized: Collection[str]
) -> TensorSource:
    """The base an adapter saw: ``quantized`` weights through the grid as float32, the rest as stored."""
    if grid.kind == "none":
        return source
    chosen = frozenset(quantized)
    specs = {
        name: TensorSpec(spec.shape, torch.float32) if name in chosen else spec
        for name, spec in source.specs.items()
    }

    def compute(name: str) -> torch.Tensor:
        tensor = source.load(name)
        return through_grid(tensor, grid) if name in chosen else tensor

    return ComputedSource(specs, compute)
