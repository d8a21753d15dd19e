"""Products with 4-bit weights that are dequantized once, for a training on a CPU.

Written for bitsandbytes 0.50. ``Linear4bit.forward`` dequantizes its weight at every pass forward and back, and
rounds its bias in place to the type of the product, so that a bias which trains would lose small updates. A
switch for each would make this unnecessary.
"""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit


class DequantizedOnce(Linear4bit):  # type: ignore[misc]  # bitsandbytes is not followed by mypy
    """A 4-bit layer that multiplies with ``dequantized`` [N, K], its weight as bitsandbytes dequantizes it."""

    dequantized: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` [..., K] times the weight, [..., N], in the weight's type."""
        weight = self.dequantized
        bias = None if self.bias is None else self.bias.to(weight.dtype)
        return torch.nn.functional.linear(x.to(weight.dtype), weight, bias)


def dequantized_bytes(model: Any, dtype: torch.dtype) -> int:
    """Bytes that ``dequantize_once`` takes."""
    elements = sum(int(m.in_features * m.out_features) for m in _layers(model))
    return int(elements * dtype.itemsize)


def dequantize_once(model: Any, dtype: torch.dtype) -> None:
    """Keep the weight of every 4-bit layer dequantized in ``dtype``, beside its codes. Works in place."""
    for module in _layers(model):
        codes = module.weight
        with torch.no_grad():
            kept = dequantize_4bit(codes.data, codes.quant_state).to(dtype)
        # No buffer: it belongs into no checkpoint, and processes need not tell one another of it.
        module.dequantized = kept.reshape(module.out_features, module.in_features)
        module.__class__ = DequantizedOnce


def _layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if type(module) is Linear4bit]
