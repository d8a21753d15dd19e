"""PEFT moves adapters to meta by the two functions that are replaced, and by no other."""

from __future__ import annotations

import inspect
from typing import Any

import peft
import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from edgepeft.compat.peft_devices import adapter_stays_put


def skeleton() -> Any:
    root = nn.Module()
    root.add_module("a", nn.Linear(4, 6, device="meta"))
    return root


def adapted(config: peft.PeftConfig) -> set[str]:
    """Where the adapter's tensors lie once PEFT has wrapped a skeleton."""
    model = peft.PeftModel(skeleton(), config)
    return {one.device.type for name, one in model.named_parameters() if "base_layer" not in name}


def test_the_method_that_moves_is_there() -> None:
    method = BaseTunerLayer._move_adapter_to_device_of_base_layer
    assert list(inspect.signature(method).parameters)[:2] == ["self", "adapter_name"]


@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(r=2, target_modules=["a"]),
        peft.LoHaConfig(r=2, target_modules=["a"]),
        peft.HRAConfig(r=2, target_modules=["a"]),
    ],
    ids=lambda config: str(config.peft_type.value),
)
def test_an_adapter_goes_to_meta_by_itself_and_stays_within(config: peft.PeftConfig) -> None:
    assert adapted(config) == {"meta"}, "PEFT leaves adapters alone now: adapter_stays_put can go"
    with adapter_stays_put():
        assert adapted(config) == {"cpu"}


def test_both_functions_are_as_before_afterwards() -> None:
    before = BaseTunerLayer._move_adapter_to_device_of_base_layer, nn.Module.to
    with pytest.raises(KeyError), adapter_stays_put():
        raise KeyError
    assert before == (BaseTunerLayer._move_adapter_to_device_of_base_layer, nn.Module.to)
    assert nn.Linear(2, 2).to(torch.device("meta")).weight.is_meta
