"""A training multiplies in the type asked for, or in that the device is fast at; what it learns is float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import edgepeft.training.precision
from edgepeft.checkpoints import base as base_stage
from edgepeft.config.training_section import ComputeDtype
from edgepeft.runs.folder import read_manifest
from edgepeft.training import stage as train_stage
from edgepeft.training.precision import compute_dtype
from tests.architectures.cases import CASES, write_case
from tests.conftest import ModelMaker
from tests.stages import run_stage
from tests.tiny import write_tiny_data


@pytest.mark.parametrize(
    ("able", "asked", "wanted"),
    [
        ({"avx512_bf16": True}, "auto", torch.bfloat16),
        ({"amx_bf16": True}, "auto", torch.bfloat16),
        ({"avx512_f": True}, "auto", torch.float32),
        ({"avx512_bf16": True}, "float32", torch.float32),
        ({}, "bfloat16", torch.bfloat16),
    ],
)
def test_auto_goes_by_what_the_processor_multiplies(
    able: dict[str, bool],
    asked: ComputeDtype,
    wanted: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert compute_dtype(asked, "llama") is wanted
    if asked == "auto":
        assert compute_dtype(asked, "deberta") is torch.float32


def trained(
    folder: Path, base: Path, rows: tuple[Path, Path], dtype: str
) -> tuple[Any, Any, list[float]]:
    settings = {
        "training": {
            "max_steps": 12,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "compute_dtype": dtype,
        },
        "base_name": "tiny",
    }
    inputs = {"base": base, "train": rows[0], "test": rows[1]}
    out = run_stage(train_stage.run, folder / dtype, settings, inputs)
    history = json.loads((out / "history.json").read_text())
    losses = [entry["loss"] for entry in history if "loss" in entry]
    return read_manifest(out), load_file(out / "adapter" / "adapter_model.safetensors"), losses


def test_bfloat16_products_train_a_float32_adapter_to_the_same_losses(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    base = run_stage(base_stage.run, tmp_path / "base", {}, {"model": tiny_model("llama")})
    rows = write_tiny_data(tmp_path)
    exact, weights, losses = trained(tmp_path, base, rows, "float32")
    rounded, others, half = trained(tmp_path, base, rows, "bfloat16")
    assert exact["result"]["compute_dtype"] == "float32"
    assert rounded["result"]["compute_dtype"] == "bfloat16"
    assert {tensor.dtype for tensor in others.values()} == {torch.float32}
    assert any(not torch.equal(weights[name], others[name]) for name in weights)
    assert len(losses) == 12
    assert losses[-1] < 0.9 * losses[0]
    torch.testing.assert_close(torch.tensor(half), torch.tensor(losses), rtol=0.03, atol=0.0)


def test_a_dense_model_of_a_family_with_mixtures_has_no_router_to_train(tmp_path: Path) -> None:
    model = write_case(CASES["granitemoehybrid"], tmp_path / "model")
    base = run_stage(base_stage.run, tmp_path / "base", {}, {"model": model})
    _, weights, losses = trained(tmp_path, base, write_tiny_data(tmp_path), "float32")
    assert any(tensor.abs().max() > 0 for name, tensor in weights.items() if "lora_B" in name)
    assert losses[-1] < losses[0]


def test_weights_that_memory_has_no_room_for_are_dequantized_as_they_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from bitsandbytes.nn import Linear4bit

    monkeypatch.setattr("edgepeft.runs.folder.free_memory", lambda: 0)
    model = torch.nn.Sequential(Linear4bit(128, 64, quant_type="nf4")).to("cpu")
    edgepeft.training.precision.ease(model, torch.float32, 64)
    assert type(model[0]) is Linear4bit
