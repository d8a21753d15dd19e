"""A weight dequantized once gives bitsandbytes' own products and gradients, and leaves codes and bias alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit

from edgepeft.compat.bitsandbytes_products import dequantize_once, dequantized_bytes

BATCH = torch.linspace(-2.0, 2.0, 4 * 128).reshape(4, 128)


def layer(compute: torch.dtype) -> Any:
    torch.manual_seed(0)
    made = Linear4bit(128, 64, quant_type="nf4", compute_dtype=compute).to("cpu")
    made.support_avx512bf16_for_cpu = False
    return made


def product_and_gradient(module: Any) -> tuple[torch.Tensor, torch.Tensor]:
    x = BATCH.clone().requires_grad_()
    out = module(x)
    out.float().pow(2).sum().backward()
    assert x.grad is not None
    return out.detach().float(), x.grad


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_products_and_gradients_are_bitsandbytes_own(compute: torch.dtype) -> None:
    own = layer(compute)
    ours = torch.nn.Sequential(copy.deepcopy(own))
    assert dequantized_bytes(ours, compute) == 128 * 64 * compute.itemsize
    dequantize_once(ours, compute)
    assert dequantized_bytes(ours, compute) == 0, "it is done once"
    for mine, theirs in zip(product_and_gradient(ours), product_and_gradient(own), strict=True):
        torch.testing.assert_close(
            mine, theirs, rtol=1e-2 if compute.itemsize == 2 else 1e-5, atol=1e-5
        )
    assert torch.equal(ours[0].weight.data, own.weight.data)
    assert set(ours.state_dict()) == {f"0.{name}" for name in own.state_dict()}


def test_a_bias_is_rounded_by_bitsandbytes_and_not_here() -> None:
    own = layer(torch.bfloat16)
    ours = torch.nn.Sequential(copy.deepcopy(own))
    dequantize_once(ours, torch.bfloat16)
    for module in (own, ours):
        module(BATCH)
    assert own.bias.dtype == torch.bfloat16
    assert ours[0].bias.dtype == torch.float32
