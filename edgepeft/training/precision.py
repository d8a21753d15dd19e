"""The type of a training's matrix products: bfloat16 where the device multiplies it faster, else float32.

The adapter, its gradients and the optimizer stay in float32 either way, as do norms, softmax and the loss: it is
torch's autocast (https://docs.pytorch.org/docs/stable/amp.html). Later stages, the reference first, compute in
float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgepeft.config.training_section import ComputeDtype

if TYPE_CHECKING:
    import torch

FLOAT32_ALONE = ("deberta",)
"""Kinds of model whose code fills its scores with numbers that bfloat16 has not."""
_SPARE = 0.5
"""Share of the free memory that dequantized weights may take."""
_SHORT = 256
"""Tokens up to which attention written out goes forward and back faster than torch's fused one in bfloat16:
1.7 to 3.5 times for 32 to 256 tokens on two cores with AVX512-BF16, torch 2.13; at 1,024 it takes 1.6 times as
long."""


def compute_dtype(asked: ComputeDtype, model_type: str) -> torch.dtype:
    """The type that a training of a kind of model on this machine multiplies in."""
    import torch

    if asked == "auto":
        able = model_type not in FLOAT32_ALONE and _multiplies_bfloat16()
        return torch.bfloat16 if able else torch.float32
    return torch.bfloat16 if asked == "bfloat16" else torch.float32


def _multiplies_bfloat16() -> bool:
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Without either, a product of bfloat16 is converted and slower than one of float32.
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def ease(adapted: Any, compute: torch.dtype, longest: int) -> None:
    """Spare a training on a CPU what changes nothing of what it learns; ``longest`` counts a row's tokens.

    4-bit weights are dequantized once, where memory allows, and short rows get attention written out.
    """
    import torch

    from edgepeft.compat.bitsandbytes_products import dequantize_once, dequantized_bytes
    from edgepeft.runs.folder import free_memory

    if torch.cuda.is_available():
        return
    if dequantized_bytes(adapted, compute) < _SPARE * free_memory():
        dequantize_once(adapted, compute)
    if compute is torch.bfloat16 and longest <= _SHORT:
        bare = adapted.get_base_model() if hasattr(adapted, "get_base_model") else adapted
        bare.set_attn_implementation("eager")
