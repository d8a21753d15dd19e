"""Budgets: sensitivities that predict real divergence, and bytes spent where they buy most."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from edgepeft.checkpoints import base as base_stage
from edgepeft.checkpoints.layers import LayerStream
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.skeleton import build_skeleton, linear_weight_names
from edgepeft.errors import InputError
from edgepeft.fidelity.measures import Comparison
from edgepeft.quantization import stage as quantize_stage
from edgepeft.quantization.budget import (
    Choice,
    candidate_grids,
    grid_bytes,
    lower_hull,
    smallest,
    spend,
)
from edgepeft.quantization.calibration import Batch
from edgepeft.quantization.codes import QuantizedWeights
from edgepeft.quantization.grids import IntGrid
from edgepeft.quantization.sensitivity import measure_sensitivities
from tests.conftest import ModelMaker
from tests.stages import run_stage, write_adapter

GRID = IntGrid(4, 32, False)


def batches() -> list[Batch]:
    ids = torch.randint(3, 500, (24, 40), generator=torch.Generator().manual_seed(3))
    padded = torch.ones(24, 40, dtype=torch.bool)
    padded[::2, 30:] = False
    return [Batch(ids[:16], padded[:16]), Batch(ids[16:], padded[16:])]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_predicted_cost_is_the_divergence_that_an_error_causes(
    tiny_model: ModelMaker, family: str
) -> None:
    folder = tiny_model(family)
    source = SafetensorsSource.from_folder(folder)
    data = batches()
    units = measure_sensitivities(LayerStream(build_skeleton(folder), source), data, source)
    found = {name: one for unit in units for name, one in unit.sensitivities.items()}
    assert set(linear_weight_names(build_skeleton(folder))) < set(found)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    weights = dict(model.named_parameters())

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([model(batch.ids).logits[batch.mask] for batch in data])

    before = logits()
    generator = torch.Generator().manual_seed(0)
    ratios = []
    for name in ("mlp.down_proj", "self_attn.o_proj", "self_attn.v_proj", "mlp.gate_proj"):
        full = f"model.layers.1.{name}.weight"
        original = weights[full].data
        error = torch.randn(original.shape, generator=generator) * original.std() * 0.02
        weights[full].data = original + error
        comparison = Comparison()
        comparison.add(before, logits(), torch.zeros(len(before), dtype=torch.int64))
        weights[full].data = original
        ratios.append(found[full].cost(error) / comparison.kl)
    # Errors of neighbouring tokens are not independent where attention averages them, as behind v_proj.
    assert all(0.2 < ratio < 4 for ratio in ratios), ratios


def test_units_are_the_weights_that_share_an_input(tiny_model: ModelMaker) -> None:
    folder = tiny_model("llama")
    source = SafetensorsSource.from_folder(folder)
    units = measure_sensitivities(LayerStream(build_skeleton(folder), source), batches(), source)
    short = [[name.split(".")[-2] for name in unit.names] for unit in units]
    layer = [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]
    assert short == [*layer, *layer, ["embed_tokens"]]


@st.composite
def options(draw: st.DrawFn) -> dict[str, list[Choice]]:
    """A few units with a few grids each; costs fall with bytes, though not evenly."""
    made = {}
    for unit in range(draw(st.integers(1, 4))):
        sizes = sorted(draw(st.sets(st.integers(1, 60), min_size=1, max_size=4)))
        costs = sorted(
            draw(st.lists(st.floats(0, 1), min_size=len(sizes), max_size=len(sizes))), reverse=True
        )
        made[str(unit)] = [Choice(GRID, a, b) for a, b in zip(sizes, costs, strict=True)]
    return made


@given(options(), st.integers(0, 200))
def test_bytes_are_kept_and_spent_nearly_as_well_as_can_be(
    units: dict[str, list[Choice]], extra: int
) -> None:
    budget = smallest(units) + extra
    chosen = spend(units, budget)
    used = sum(choice.nbytes for choice in chosen.values())
    cost = sum(choice.cost for choice in chosen.values())
    assert used <= budget
    everything = [
        sum(choice.cost for choice in combination)
        for combination in itertools.product(*units.values())
        if sum(choice.nbytes for choice in combination) <= budget
    ]
    # The greedy order is optimal up to one step, which costs at most the largest fall of any unit.
    step = max(hull[0].cost - hull[-1].cost for hull in map(lower_hull, units.values()))
    assert min(everything) - 1e-9 <= cost <= min(everything) + step + 1e-9


def test_hull_leaves_out_what_buys_less_than_a_larger_step_would() -> None:
    choices = [
        Choice(GRID, 1, 1.0),
        Choice(GRID, 2, 0.9),
        Choice(GRID, 3, 0.1),
        Choice(GRID, 4, 0.2),
    ]
    assert [choice.nbytes for choice in lower_hull(choices)] == [1, 3]


def test_bytes_of_a_grid_are_those_of_its_parts_in_a_bundle() -> None:
    assert grid_bytes(IntGrid(4, 32, True), 10, 64) == 10 * 64 // 2 + 10 * 2 * 2
    assert grid_bytes(IntGrid(8, 32, False), 10, 64) == 10 * 64 + 10 * 2 * 2 + 10 * 2
    assert [grid.bits for grid in candidate_grids(True)] == [4, 4, 4, 8]


@pytest.mark.parametrize("tied", [True, False])
def test_stage_spends_a_budget_and_names_the_least_there_is(
    tiny_model: ModelMaker, tmp_path: Path, tied: bool
) -> None:
    model = tiny_model("llama", tied=tied)
    inputs = {
        "base": run_stage(base_stage.run, tmp_path / "base", {}, {"model": model}),
        "adapter": write_adapter(model, tmp_path / "adapter"),
    }

    def settings(max_bytes: int) -> dict[str, object]:
        quantize = {
            **{"algorithm": "gptq", "block_size": 32, "symmetric": False, "head": "int8"},
            "max_bytes": max_bytes,
            "calibration": {"tokens": 256, "task_share": 0.25, "seed": 0},
        }
        merge = {"base": "dequantized", "grid": "nf4"}
        return {"merge": merge, "quantize": quantize, "bits": 4, "data": {"template": "auto"}}

    with pytest.raises(InputError, match="max_bytes: 1000 is out of reach; the smallest") as caught:
        run_stage(quantize_stage.run, tmp_path / "none", settings(1000), inputs)
    least = int(str(caught.value).rpartition(" ")[2])
    shares = []
    for extra in (0, 20_000, 10**9):
        folder = tmp_path / f"codes-{extra}"
        run_stage(quantize_stage.run, folder, settings(least + extra), inputs)
        quantized = QuantizedWeights.open(folder)
        grids = {name: quantized.grid(name) for name in quantized.plan["weights"]}
        bits = [grid.bits for grid in grids.values() if grid is not None]
        shares.append(sum(bits) / len(bits))
        assert len(quantized.plan["budget"]) == 9
        for layer in range(2):
            attention = f"model.layers.{layer}.self_attn"
            assert len({grids[f"{attention}.{part}_proj.weight"] for part in "qkv"}) == 1
    assert shares[0] == 4
    assert shares[0] <= shares[1] <= shares[2] == 8
