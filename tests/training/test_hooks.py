"""Hooks that methods declare are found by what trains, and by nothing else."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import peft
import torch
from transformers import AutoModelForCausalLM

from edgepeft.adapters.methods import all_methods
from edgepeft.training.adalora import AdaLora, RankAllocation
from edgepeft.training.hooks import TrainingHooks, hooks_of
from tests.conftest import ModelMaker
from tests.training.test_trainer import adapted


def test_every_method_that_names_hooks_has_them() -> None:
    named = [method for method in all_methods().values() if method.hooks is not None]
    assert "adalora" in {method.name for method in named}
    for method in named:
        assert method.hooks is not None
        assert issubclass(pkgutil.resolve_name(method.hooks), TrainingHooks)


def test_adalora_has_its_own_and_lora_and_a_bare_model_have_none(tiny_model: ModelMaker) -> None:
    folder = tiny_model("llama")
    config = peft.AdaLoraConfig(
        init_r=4, target_r=2, total_step=10, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = adapted(folder, config)
    hooks = hooks_of(model)
    assert isinstance(hooks, AdaLora)
    assert [type(callback) for callback in hooks.callbacks(model)] == [RankAllocation]
    assert hooks.penalty(model) > 0
    model.peft_config["default"].rank_pattern = {"q_proj": [True, False]}
    hooks.before_saving(model)
    assert model.peft_config["default"].rank_pattern is None

    lora = adapted(folder, peft.LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    bare = AutoModelForCausalLM.from_pretrained(Path(folder), dtype=torch.float32)
    for plain in (lora, bare):
        none = hooks_of(plain)
        assert type(none) is TrainingHooks
        assert list(none.callbacks(plain)) == []
        assert none.penalty(plain) == 0
