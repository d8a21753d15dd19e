"""PEFT calls what a tuner must override, and reads what a layer must set."""

from __future__ import annotations

import inspect
from typing import Any

import peft
import pytest
import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

from edgepeft.adapters.bottleneck import (
    BottleneckConfig,
    BottleneckLayer,
    BottleneckModel,
    register,
)


@pytest.fixture
def model() -> Any:
    """Two layers of a tiny model with a bottleneck adapter that does something."""
    register()
    torch.manual_seed(0)
    base = nn.Sequential()
    base.add_module("a", nn.Linear(4, 4))
    base.add_module("b", nn.Linear(4, 4))
    made = peft.get_peft_model(base, BottleneckConfig(target_modules=["a", "b"], bottleneck_size=2))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1)
    return made


def test_the_methods_have_their_arguments() -> None:
    names = list(inspect.signature(BaseTuner._create_and_replace).parameters)
    assert names[:7] == [
        *("self", "peft_config", "adapter_name", "target", "target_name", "parent", "current_key"),
    ]
    names = list(inspect.signature(BaseTuner._replace_module).parameters)
    assert names == ["self", "parent", "child_name", "new_module", "child"]
    assert "_create_and_replace" in BaseTuner.__abstractmethods__
    assert hasattr(BaseTunerLayer, "_move_adapter_to_device_of_base_layer")


def test_peft_asks_for_each_target_and_puts_in_what_it_gets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register()
    asked: list[str] = []
    made = BottleneckModel.adapted

    def noted(self: Any, config: Any, name: str, target: Any, where: str) -> Any:
        asked.append(where)
        return made(self, config, name, target, where)

    monkeypatch.setattr(BottleneckModel, "adapted", noted)
    base = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model = peft.get_peft_model(base, BottleneckConfig(target_modules=["1"], bottleneck_size=2))
    assert asked == ["1"]
    assert [isinstance(layer, BottleneckLayer) for layer in base] == [False, True]
    trained = [name for name, one in model.named_parameters() if one.requires_grad]
    assert trained
    assert all("bottleneck_" in name for name in trained)


def test_peft_switches_a_layer_by_the_attributes_that_it_sets(model: Any) -> None:
    x = torch.ones(1, 4)
    own = model(x)
    assert BaseTunerLayer.disable_adapters.fget(model.base_model.model.a) is False
    with model.disable_adapter():
        assert model.base_model.model.a._disable_adapters
        assert not torch.equal(model(x), own)
    assert torch.equal(model(x), own)
    model.add_adapter("other", BottleneckConfig(target_modules=["a", "b"], bottleneck_size=2))
    assert torch.equal(model(x), own)
    model.set_adapter("other")
    assert model.base_model.model.a._active_adapter in ("other", ["other"])
    with model.disable_adapter():
        base = model(x)
    # A fresh adapter is the identity.
    assert torch.equal(model(x), base)


def test_a_second_adapter_stays_out_of_training_until_it_is_chosen(model: Any) -> None:
    model.add_adapter("other", BottleneckConfig(target_modules=["a"], bottleneck_size=2))
    other = [one for name, one in model.named_parameters() if ".other." in name]
    assert other
    assert not any(one.requires_grad for one in other)


def test_a_layer_moves_an_adapter_to_the_dtype_of_its_base() -> None:
    layer = BottleneckLayer(nn.Linear(4, 4).to(torch.float64), "default", BottleneckConfig())
    assert layer.bottleneck_down["default"].weight.dtype == torch.float64
