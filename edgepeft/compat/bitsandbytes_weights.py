"""Another weight for a linear layer that bitsandbytes holds on a grid.

Written for bitsandbytes 0.50. Makes ``Params4bit`` with the attributes of the one it replaces (``quant_type``,
``blocksize``, ``compress_statistics``, ``quant_storage``, ``module``), and clears ``state.CB`` and
``state.SCB`` of an 8-bit layer, where it keeps the codes of the weight before. A function of bitsandbytes that
quantizes a new weight into a layer would make this unnecessary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def replace_weight(module: Any, weight: torch.Tensor) -> None:
    """Put a float32 weight [N, K] into a linear layer, through bitsandbytes where it has such weights."""
    import torch
    from bitsandbytes.nn import Int8Params, Params4bit

    old = module.weight
    device = old.device
    if isinstance(old, Params4bit):
        new: Any = Params4bit(
            weight.cpu(),
            requires_grad=False,
            quant_type=old.quant_type,
            blocksize=old.blocksize,
            compress_statistics=old.compress_statistics,
            quant_storage=old.quant_storage,
            module=module,
        ).to(device)
    elif isinstance(old, Int8Params):
        new = Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False).to(device)
        module.state.CB = module.state.SCB = None
    else:
        new = torch.nn.Parameter(weight.to(device), requires_grad=False)
    module.weight = new
