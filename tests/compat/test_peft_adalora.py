"""AdaLoRA goes on from its state as if it had never stopped, and without it does not."""

from __future__ import annotations

from typing import Any

import peft
import torch
from torch import nn

from edgepeft.compat.peft_adalora import rank_state, take_up_rank_state

STEPS, LAST = 12, 9
"""Of the schedule, and the last that is taken here: at the end PEFT forgets the importances."""


def model() -> Any:
    torch.manual_seed(0)
    config = peft.AdaLoraConfig(
        target_modules=["0", "1"],
        init_r=4,
        target_r=2,
        tinit=1,
        tfinal=2,
        deltaT=1,
        total_step=STEPS,
    )
    base = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    return peft.get_peft_model(base, config)


def train(model: Any, first: int, last: int) -> None:
    for step in range(first, last):
        torch.manual_seed(step)
        model.zero_grad()
        model.base_model.model(torch.randn(8, 6)).square().sum().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.01 * parameter.grad
        model.base_model.update_and_allocate(step)


def ranks(model: Any) -> Any:
    return model.base_model.peft_config["default"].rank_pattern


def test_the_state_is_all_that_a_training_needs_to_go_on() -> None:
    whole = model()
    train(whole, 1, LAST)
    assert ranks(whole), "the example never shared out its ranks"

    begun = model()
    train(begun, 1, 6)
    state = rank_state(begun.base_model)
    assert state["ipt"]
    assert state["exp_avg_unc"].keys() == state["ipt"].keys() == state["exp_avg_ipt"].keys()

    resumed, forgetful = model(), model()
    for other in (resumed, forgetful):
        other.load_state_dict(begun.state_dict())
    take_up_rank_state(resumed.base_model, state)
    for other in (resumed, forgetful):
        train(other, 6, LAST)
    mine, theirs, lost = (rank_state(one.base_model) for one in (resumed, whole, forgetful))
    assert theirs["exp_avg_ipt"]
    for name, average in theirs["exp_avg_ipt"].items():
        assert torch.equal(mine["exp_avg_ipt"][name], average)
    assert ranks(resumed) == ranks(whole)
    assert any(
        not torch.equal(lost["exp_avg_ipt"][name], average)
        for name, average in theirs["exp_avg_ipt"].items()
    ), "PEFT keeps the importances itself now"
