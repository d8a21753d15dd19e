"""The helper answers what PEFT does when it wraps a model."""

from __future__ import annotations

import inspect
from typing import Any

import peft
import pytest
from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
from torch import nn

from edgepeft.compat.peft_targets import is_target

CHOICES: dict[str, dict[str, Any]] = {
    "by ending": {"target_modules": ["q", "v"]},
    "by pattern": {"target_modules": r".*\.[qk]"},
    "some layers": {
        "target_modules": ["q"],
        "layers_to_transform": [1],
        "layers_pattern": "layers",
    },
    "all but": {"target_modules": ["q", "k"], "exclude_modules": ["layers.0.q"]},
}


def test_the_helper_takes_configuration_and_name() -> None:
    assert list(inspect.signature(check_target_module_exists).parameters) == ["config", "key"]


@pytest.mark.parametrize("choice", CHOICES)
def test_what_is_a_target_is_what_peft_wraps(choice: str) -> None:
    layers = nn.ModuleList(
        nn.ModuleDict({name: nn.Linear(2, 2) for name in "qkv"}) for _ in range(2)
    )
    model = nn.ModuleDict({"layers": layers})
    names = [name for name, one in model.named_modules() if isinstance(one, nn.Linear)]
    config = peft.LoraConfig(r=1, **CHOICES[choice])
    chosen = {name for name in names if is_target(config, name)}
    peft.get_peft_model(model, config)
    wrapped = {name for name, one in model.named_modules() if isinstance(one, BaseTunerLayer)}
    assert chosen == wrapped
    assert 0 < len(chosen) < len(names)
