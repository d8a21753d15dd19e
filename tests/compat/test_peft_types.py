"""PEFT's list of types is closed, and takes a member all the same."""

from __future__ import annotations

import peft
import pytest
from peft.utils import PeftType, register_peft_method

from edgepeft.adapters.bottleneck import BottleneckConfig, BottleneckModel, register
from edgepeft.adapters.bottleneck_shape import TYPE
from edgepeft.compat.peft_types import add_peft_type


def test_a_type_that_is_not_listed_is_refused() -> None:
    with pytest.raises(ValueError, match="PEFT"):
        register_peft_method(
            name="never_listed", config_cls=BottleneckConfig, model_cls=BottleneckModel
        )


def test_an_added_type_is_a_member_by_name_and_by_value() -> None:
    add_peft_type(TYPE)
    add_peft_type(TYPE)
    assert list(PeftType).count(TYPE) == 1
    assert PeftType[TYPE] is PeftType(TYPE) is getattr(PeftType, TYPE)
    assert isinstance(PeftType(TYPE), PeftType)
    assert PeftType(TYPE).name == PeftType(TYPE).value == TYPE


def test_peft_takes_the_method_of_an_added_type() -> None:
    register()
    config = peft.get_peft_config({"peft_type": TYPE, "bottleneck_size": 3})
    assert isinstance(config, BottleneckConfig)
    assert config.peft_type == PeftType(TYPE)
