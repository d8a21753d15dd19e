"""Ranks and scales are those that PEFT's own layers compute with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgepeft.adapters.scale import check_scaled, divisor, lora_scale, lora_scales
from edgepeft.errors import InputError

NAMES = ["layers.0.q_proj", "layers.0.v_proj", "layers.1.q_proj", "layers.1.v_proj"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"r": 6, "lora_alpha": 9},
        {"r": 6, "lora_alpha": 9, "use_rslora": True},
        {"r": 4, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.v_proj": 5}},
        {"r": 4, "rank_pattern": {r"layers\.\d\.v.*": 3, "v_proj": 2}, "use_rslora": True},
    ],
)
def test_scales_are_pefts(settings: dict[str, Any]) -> None:
    pytest.importorskip("peft")
    from peft import LoraConfig, get_peft_model
    from torch import nn

    class Layer(nn.Module):  # type: ignore[misc]  # torch has no types here
        def __init__(self) -> None:
            super().__init__()
            self.q_proj, self.v_proj = nn.Linear(8, 8), nn.Linear(8, 8)

    model = nn.Module()
    model.layers = nn.ModuleList([Layer(), Layer()])
    wrapped = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], **settings))
    found = lora_scales(settings, NAMES, "here")
    assert list(found) == NAMES
    for name, (rank, scale) in found.items():
        layer = wrapped.base_model.model.get_submodule(name)
        assert (rank, scale) == (layer.r["default"], layer.scaling["default"])
    rank = settings.get("r", 8)
    assert lora_scale(settings) == settings.get("lora_alpha", 8) / divisor(settings, rank)


def test_a_scale_that_makes_factors_infinite_is_refused() -> None:
    check_scaled(Path("file"), "q_proj", (1e10, 1e10), 8, 2.0)
    with pytest.raises(InputError, match="q_proj: its factors are not finite"):
        check_scaled(Path("file"), "q_proj", (1e20, 1e20), 8, 2.0)
