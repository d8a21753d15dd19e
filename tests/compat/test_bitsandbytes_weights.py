"""A layer with a replaced weight is the layer that would have been made with it."""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import pytest
import torch

from edgepeft.compat.bitsandbytes_weights import replace_weight

LAYERS = {
    "nf4": lambda: bnb.nn.Linear4bit(128, 64, bias=False, quant_type="nf4"),
    "fp4, scales once": lambda: bnb.nn.Linear4bit(
        128, 64, bias=False, quant_type="fp4", compress_statistics=False
    ),
    "int8": lambda: bnb.nn.Linear8bitLt(128, 64, bias=False, has_fp16_weights=False),
    "float": lambda: torch.nn.Linear(128, 64, bias=False),
}


def layer_of(kind: str, weight: torch.Tensor) -> Any:
    layer = LAYERS[kind]()
    layer.load_state_dict({"weight": weight})
    return layer.to("cpu")


def output(layer: Any) -> torch.Tensor:
    with torch.no_grad():
        made: torch.Tensor = layer(torch.linspace(-1, 1, 256).reshape(2, 128))
    return made


@pytest.mark.parametrize("kind", LAYERS)
def test_it_computes_with_the_new_weight_alone(kind: str) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(64, 128), torch.randn(64, 128)
    layer = layer_of(kind, first)
    # Once used, an 8-bit layer keeps its codes elsewhere.
    before = output(layer)
    if kind == "int8":
        assert hasattr(layer.state, "CB")
        assert hasattr(layer.state, "SCB")
    replace_weight(layer, second)
    wanted = output(layer_of(kind, second))
    assert torch.equal(output(layer), wanted)
    assert not torch.allclose(before, wanted, atol=1.0)
    assert type(layer.weight) is type(layer_of(kind, second).weight)
