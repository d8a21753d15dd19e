"""A 4-bit layer repacks itself only where the attribute lets it."""

from __future__ import annotations

import inspect
from typing import Any

import bitsandbytes as bnb
import torch

from edgepeft.compat.bitsandbytes_repacking import keep_packing


def quantized() -> Any:
    torch.manual_seed(0)
    layer = bnb.nn.Linear4bit(128, 128, quant_type="nf4", compute_dtype=torch.bfloat16)
    return layer.to("cpu")


def test_the_attribute_decides_in_the_layers_forward() -> None:
    assert hasattr(quantized(), "support_avx512bf16_for_cpu")
    assert "self.support_avx512bf16_for_cpu" in inspect.getsource(bnb.nn.Linear4bit.forward)


def test_codes_and_scales_are_the_same_after_an_evaluation() -> None:
    layer = quantized()
    layer.support_avx512bf16_for_cpu = True
    keep_packing(torch.nn.Sequential(layer))
    assert layer.support_avx512bf16_for_cpu is False
    codes, scales = layer.weight.data.clone(), layer.weight.quant_state.absmax.clone()
    layer.eval()
    with torch.no_grad():
        layer(torch.ones(1, 128, dtype=torch.bfloat16))
    assert torch.equal(layer.weight.data, codes)
    assert torch.equal(layer.weight.quant_state.absmax, scales)
    assert layer.weight.quant_state.absmax.dtype == scales.dtype
