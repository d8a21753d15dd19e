"""The dequantized base is what bitsandbytes really holds while an adapter is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes import functional

from edgepeft.adapters.provenance import TrainingGrid
from edgepeft.adapters.training_grid import dequantized, through_grid
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.skeleton import build_skeleton, linear_weight_names
from edgepeft.training.loading import load_base_for_training, quantized_weight_names
from tests.conftest import ModelMaker
from tests.tiny import load_in_4_bits


def held_by(model: Any, name: str) -> torch.Tensor:
    """What a live 4-bit layer computes with; asked before any forward, which may repack it."""
    weight = model.get_parameter(name)
    return functional.dequantize_4bit(weight.data, weight.quant_state)


def assert_same_base(folder: Path, model: Any, grid: TrainingGrid) -> None:
    names = linear_weight_names(build_skeleton(folder))
    source = dequantized(SafetensorsSource.from_folder(folder), grid, names)
    assert quantized_weight_names(model) == names
    for name in names:
        assert torch.equal(held_by(model, name), source.load(name)), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_equals_what_the_trainer_loads(tiny_model: ModelMaker, family: str, dtype: str) -> None:
    folder = tiny_model(family, dtype=dtype)
    model = load_base_for_training(folder, TrainingGrid("nf4"), torch.float32)
    assert_same_base(folder, model, TrainingGrid("nf4"))


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_equals_what_transformers_loads(tiny_model: ModelMaker, kind: Any, double: bool) -> None:
    folder = tiny_model("llama")
    model = load_in_4_bits(folder, kind, double=double)
    assert_same_base(folder, model, TrainingGrid(kind, double_quant=double))


def test_the_grids_differ_from_each_other_and_from_no_grid() -> None:
    weight = torch.randn(48, 160, generator=torch.Generator().manual_seed(0))
    grids = [
        TrainingGrid(kind, block_size, double)
        for kind in ("nf4", "fp4")
        for block_size in (64, 128)
        for double in (False, True)
    ]
    rounded = [weight, *(through_grid(weight, grid) for grid in grids)]
    assert through_grid(weight, TrainingGrid("none")) is weight
    for index, one in enumerate(rounded):
        assert one.shape == weight.shape
        assert not any(torch.equal(one, other) for other in rounded[index + 1 :])


def test_untouched_weights_keep_value_and_dtype(tiny_model: ModelMaker) -> None:
    stored = SafetensorsSource.from_folder(tiny_model("llama", tied=False, dtype="bfloat16"))
    chosen = "model.layers.0.mlp.up_proj.weight"
    source = dequantized(stored, TrainingGrid("nf4"), [chosen])
    for name, spec in stored.specs.items():
        loaded = source.load(name)
        if name == chosen:
            assert loaded.dtype == source.specs[name].dtype == torch.float32
            assert not torch.equal(loaded, stored.load(name).float())
        else:
            assert source.specs[name] == spec
            assert torch.equal(loaded, stored.load(name))
