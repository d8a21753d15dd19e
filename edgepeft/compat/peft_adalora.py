"""What AdaLoRA has learned of the importance of ranks, as a state to be kept and taken up.

Written for peft 0.21. Reads and sets ``ipt``, ``exp_avg_ipt`` and ``exp_avg_unc`` of the model's
``rankallocator``, and the configuration's ``rank_pattern``. PEFT saves none of them with a checkpoint, so a
training that is taken up again would share out its ranks anew. Saving of them by PEFT would make this
unnecessary.
"""

from __future__ import annotations

from typing import Any

_AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")


def rank_state(tuner: Any) -> dict[str, Any]:
    """The state of an AdaLoraModel: float tensors by parameter and average, and the pattern of ranks."""
    kept = {name: getattr(tuner.rankallocator, name) for name in _AVERAGES}
    return {**kept, "rank_pattern": tuner.peft_config["default"].rank_pattern}


def take_up_rank_state(tuner: Any, state: dict[str, Any]) -> None:
    """Have an AdaLoraModel go on from what ``rank_state`` returned."""
    tuner.peft_config["default"].rank_pattern = state["rank_pattern"]
    for name in _AVERAGES:
        setattr(tuner.rankallocator, name, state[name])
