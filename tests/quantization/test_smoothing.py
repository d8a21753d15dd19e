"""Smoothing: exact in floating point on every architecture, and less lost where products round to 8 bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaMLP

from edgepeft.calibration.data import Batch
from edgepeft.calibration.layer_stream import LayerStream
from edgepeft.checkpoints import base as base_stage
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.skeleton import build_skeleton, linear_weight_names
from edgepeft.merging.stage import open_weights
from edgepeft.quantization import stage as quantize_stage
from edgepeft.quantization.algorithms import find_algorithm
from edgepeft.quantization.divergence import Judge, to_eight_bits
from edgepeft.quantization.grids import IntGrid
from edgepeft.quantization.packed_weights import QuantizedWeights
from edgepeft.quantization.settings import QuantizeSettings
from edgepeft.quantization.smoothing import Smoothing, Trial
from tests.conftest import ModelMaker
from tests.quantization.weights import normal
from tests.quantize_settings import UNSAID
from tests.stages import job_of, run_stage, write_adapter
from tests.tiny import FAMILIES

GRID = IntGrid(8, 32, False)
LOUD = 40.0


def batch(rows: int = 2) -> Batch:
    ids = torch.randint(3, 500, (rows, 24), generator=torch.Generator().manual_seed(1))
    every = torch.ones_like(ids, dtype=torch.bool)
    return Batch(ids, every, every, "generic")


def anyhow(smoothing: Smoothing, fold: Any, samples: Any) -> torch.Tensor:
    """Scales that nothing speaks for, from a quarter to four."""
    generator = torch.Generator().manual_seed(smoothing.places)
    sample = samples[next(iter(fold.readers))]
    return torch.exp2(4 * torch.rand(sample.shape[1], generator=generator) - 2)


def smoothed(folder: Path, unrounded: tuple[str, ...] = ()) -> tuple[dict[str, Any], int]:
    """Every tensor that a checkpoint's smoothing gives anew, and in how many places it did."""
    skeleton = build_skeleton(folder)
    stream = LayerStream(skeleton, SafetensorsSource.from_folder(folder))
    names = [name for name in linear_weight_names(skeleton) if not name.endswith(unrounded or "-")]
    smoothing = Smoothing(stream, [batch()], dict.fromkeys(names, GRID), eight_bit_inputs=True)
    found: dict[str, Any] = {}
    for index in range(len(stream)):
        with stream.layer(index):
            linear = stream.linear(index)
            samples = {name: torch.randn(8, module.in_features) for name, module in linear.items()}
            smoothing.smooth(index, samples)
            found |= {name: module.weight.data.clone() for name, module in linear.items()}
    return found | smoothing.folded, smoothing.places


def logits(folder: Path, changed: dict[str, Any]) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in changed.items():
            parameters[name].copy_(value)
        return model(batch().ids).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_any_scales_leave_the_model_as_it_was(
    tiny_model: ModelMaker, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Smoothing, "choose", anyhow)
    folder = tiny_model(family)
    changed, places = smoothed(folder)
    layers = {"gemma3": 4, "smollm3": 4, "lfm2": 3}.get(family, 2)
    # Norm to query, key and value; norm to gate and up; up to down.
    assert places == 3 * layers
    source = SafetensorsSource.from_folder(folder)
    kept = [name for name in changed if torch.equal(changed[name], source.load(name))]
    assert kept == [name for name in changed if "o_proj" in name or "out_proj" in name]
    wanted = logits(folder, {})
    torch.testing.assert_close(
        logits(folder, changed), wanted, rtol=0, atol=2e-4 * float(wanted.abs().max())
    )


@pytest.mark.parametrize("how", ["input added", "other branch"])
def test_a_layer_that_uses_its_channels_otherwise_is_left_alone(
    tiny_model: ModelMaker, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def added(self: Any, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x)) + x

    def other(self: Any, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.gate_proj(x) * self.act_fn(self.up_proj(x)))

    monkeypatch.setattr(Smoothing, "choose", anyhow)
    monkeypatch.setattr(LlamaMLP, "forward", added if how == "input added" else other)
    folder = tiny_model("llama")
    changed, places = smoothed(folder)
    assert places == 4
    kept = "gate_proj" if how == "input added" else "down_proj"
    source = SafetensorsSource.from_folder(folder)
    untouched = [name for name in changed if kept in name]
    assert len(untouched) == 2
    assert all(torch.equal(changed[name], source.load(name)) for name in untouched)
    torch.testing.assert_close(logits(folder, changed), logits(folder, {}), rtol=0, atol=1e-3)


def test_a_place_that_reaches_weights_which_stay_in_float_is_left_alone(
    tiny_model: ModelMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Smoothing, "choose", anyhow)
    _, places = smoothed(tiny_model("llama"), ("layers.0.mlp.up_proj.weight",))
    assert places == 4


def loud(tokens: int, width: int) -> torch.Tensor:
    """Inputs with one loud channel in every block, as language models have them."""
    inputs = torch.randn(tokens, width, generator=torch.Generator().manual_seed(5))
    inputs[:, ::32] *= LOUD
    return inputs


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("eight_bit_inputs", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_error_that_scales_are_chosen_by_is_that_of_the_products(
    symmetric: bool, eight_bit_inputs: bool, bits: int
) -> None:
    grid, inputs, weight = IntGrid(bits, 32, symmetric), loud(512, 128), normal(96, 128)
    trial = Trial(inputs, [(weight, grid)], eight_bit_inputs=eight_bit_inputs)
    errors = {}
    for exponent in (0.0, 0.5):
        scales = trial.scales(exponent, 0.25)
        assert float(scales.log().mean()) == pytest.approx(0.0, abs=1e-5)
        rounded = find_algorithm("rtn")(weight * scales, grid).dequantize()
        seen = inputs / scales
        seen = to_eight_bits(seen, 32) if eight_bit_inputs else seen
        found = (seen @ rounded.T - inputs @ weight.T).square().sum(-1).mean()
        assert trial.error(scales) == pytest.approx(float(found), rel=0.3)
        errors[exponent] = float(found)
    if eight_bit_inputs and bits == 8:
        assert errors[0.5] < 0.3 * errors[0.0]


def with_loud_channels(model: Path, folder: Path) -> Path:
    """The same function, with one channel in every block loud behind its norms."""
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    for name, value in tensors.items():
        if "input_layernorm" in name or "post_attention_layernorm" in name:
            value[::32] *= LOUD
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")) or name.endswith(
            ("gate_proj.weight", "up_proj.weight")
        ):
            value[:, ::32] /= LOUD
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(("algorithm", "bits"), [("rtn", 8), ("gptq", 8)])
def test_the_stage_loses_less_and_what_reads_it_finds_the_norms(
    tiny_model: ModelMaker, tmp_path: Path, algorithm: str, bits: int
) -> None:
    model = with_loud_channels(tiny_model("llama"), tmp_path / "model")
    inputs = {
        "base": run_stage(base_stage.run, tmp_path / "base", {}, {"model": model}),
        "adapter": write_adapter(model, tmp_path / "adapter"),
    }
    divergence = {}
    for smooth in (False, True):
        settings = {
            "merge": {"base": "dequantized", "grid": "none"},
            "quantize": {
                **UNSAID,
                **{"algorithm": algorithm, "head": "float"},
                **{"calibration": {"tokens": 512, "task_share": 0.25, "seed": 0}},
                "smooth": smooth,
            },
            **{"bits": bits, "data": {"template": "auto"}, "eight_bit_inputs": True},
        }
        folder = tmp_path / f"codes-{smooth}"
        run_stage(quantize_stage.run, folder, settings, inputs)
        quantized = QuantizedWeights.open(folder)
        assert quantized.plan.smoothed == (6 if smooth else 0)
        weights = open_weights(job_of(QuantizeSettings, tmp_path / "job", settings, inputs))
        judge = Judge(
            build_skeleton(model), weights, {"generic": [batch(8)]}, eight_bit_inputs=True
        )
        (divergence[smooth],) = judge.divergence(quantized)
        norm = "model.layers.1.input_layernorm.weight"
        assert torch.equal(quantized.over(weights).load(norm), weights.load(norm)) != smooth
        result = json.loads((folder / "edgepeft.json").read_text())["result"]
        assert (result["layer_errors"] is None) == (algorithm == "rtn" and not smooth)
    assert divergence[True] < 0.3 * divergence[False]
