"""Budgets: sensitivities that predict real divergence, and bytes spent where they buy most."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from edgepeft.calibration.data import Batch
from edgepeft.calibration.layer_stream import LayerStream
from edgepeft.checkpoints import base as base_stage
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.skeleton import build_skeleton, linear_weight_names
from edgepeft.errors import InputError
from edgepeft.merging.stage import open_weights
from edgepeft.metrics.generation import Comparison
from edgepeft.quantization import stage as quantize_stage
from edgepeft.quantization.divergence import Judge, rounded_source, to_eight_bits
from edgepeft.quantization.grids import IntGrid
from edgepeft.quantization.mixed_precision import (
    Choice,
    candidate_grids,
    grid_bytes,
    lower_hull,
    reach,
    smallest,
    spend,
    total,
    within,
)
from edgepeft.quantization.packed_weights import QuantizedWeights
from edgepeft.quantization.sensitivity import measure_sensitivities
from edgepeft.quantization.settings import QuantizeSettings
from tests.conftest import ModelMaker
from tests.quantize_settings import UNSAID
from tests.stages import job_of, run_stage, write_adapter
from tests.tiny import write_tiny_data

GRID = IntGrid(4, 32, False)


def price(choice: Choice) -> float:
    """The only kind of data there is."""
    return choice.costs[0]


def batches() -> list[Batch]:
    ids = torch.randint(3, 500, (24, 40), generator=torch.Generator().manual_seed(3))
    padded = torch.ones(24, 40, dtype=torch.bool)
    padded[::2, 30:] = False
    judged = padded.clone()
    judged[:, :5] = False
    return [
        Batch(ids[:16], padded[:16], judged[:16], "generic"),
        Batch(ids[16:], padded[16:], judged[16:], "generic"),
    ]


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
            return torch.cat([model(batch.ids).logits[batch.scored] for batch in data])

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


@pytest.mark.parametrize("block_size", [16, 64])
def test_predicted_cost_of_eight_bit_inputs(tiny_model: ModelMaker, block_size: int) -> None:
    folder = tiny_model("llama")
    source = SafetensorsSource.from_folder(folder)
    data = batches()
    units = measure_sensitivities(LayerStream(build_skeleton(folder), source), data, source)
    found = {name: one for unit in units for name, one in unit.sensitivities.items()}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([model(batch.ids).logits[batch.scored] for batch in data])

    before = logits()
    for name in ("mlp.down_proj", "self_attn.o_proj", "mlp.gate_proj"):
        full = f"model.layers.1.{name}"
        module = model.get_submodule(full)
        # Ten times coarser than 8 bits, for the divergence to rise above float noise.
        hook = module.register_forward_pre_hook(
            lambda _, given: (given[0] + 10 * (to_eight_bits(given[0], block_size) - given[0]),)
        )
        comparison = Comparison()
        comparison.add(before, logits(), torch.zeros(len(before), dtype=torch.int64))
        hook.remove()
        expected = 100 * found[f"{full}.weight"].input_cost(module.weight.data, block_size)
        assert 0.3 < expected / comparison.kl < 3, name


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_judge_measures_what_the_rounded_model_does(
    tiny_model: ModelMaker, tmp_path: Path, family: str
) -> None:
    model = tiny_model(family)
    inputs = {
        "base": run_stage(base_stage.run, tmp_path / "base", {}, {"model": model}),
        "adapter": write_adapter(model, tmp_path / "adapter"),
    }
    merge = {"base": "original", "grid": "none"}
    settings = {"merge": merge, "quantize": UNSAID, "bits": 4}
    folder = run_stage(quantize_stage.run, tmp_path / "codes", settings, inputs)
    quantized = QuantizedWeights.open(folder)
    job = job_of(QuantizeSettings, tmp_path / "unused", settings, inputs)
    weights = open_weights(job)
    skeleton = build_skeleton(model)
    data = {"generic": batches()}
    exact, coarse = (
        Judge(skeleton, weights, data, eight_bit_inputs=flag).divergence(quantized)[0]
        for flag in (False, True)
    )
    source = rounded_source(quantized, weights)
    before, after = (
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval() for _ in range(2)
    )
    for one, values in ((before, weights), (after, source)):
        for name, parameter in one.named_parameters():
            parameter.data = values.load(name).to(torch.float32)
    comparison = Comparison()
    with torch.no_grad():
        for batch in data["generic"]:
            p, q = (one(batch.ids).logits[batch.scored] for one in (before, after))
            comparison.add(p, q, torch.zeros(len(p), dtype=torch.int64))
    assert exact == pytest.approx(comparison.kl, rel=1e-3)
    assert coarse != pytest.approx(exact, rel=1e-3)


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
        made[str(unit)] = [Choice(GRID, a, (b,)) for a, b in zip(sizes, costs, strict=True)]
    return made


@given(options(), st.integers(0, 200))
def test_bytes_are_kept_and_spent_nearly_as_well_as_can_be(
    units: dict[str, list[Choice]], extra: int
) -> None:
    budget = smallest(units) + extra
    chosen = spend(units, budget, price)
    used = sum(choice.nbytes for choice in chosen.values())
    (cost,) = total(chosen)
    assert used <= budget
    everything = [
        sum(map(price, combination))
        for combination in itertools.product(*units.values())
        if sum(choice.nbytes for choice in combination) <= budget
    ]
    # The greedy order is optimal up to one step, which costs at most the largest fall of any unit.
    hulls = [lower_hull(choices, price) for choices in units.values()]
    step = max(price(hull[0]) - price(hull[-1]) for hull in hulls)
    assert min(everything) - 1e-9 <= cost <= min(everything) + step + 1e-9


def test_hull_leaves_out_what_buys_less_than_a_larger_step_would() -> None:
    choices = [
        Choice(GRID, 1, (1.0,)),
        Choice(GRID, 2, (0.9,)),
        Choice(GRID, 3, (0.1,)),
        Choice(GRID, 4, (0.2,)),
    ]
    assert [choice.nbytes for choice in lower_hull(choices, price)] == [1, 3]


@st.composite
def two_kinds(draw: st.DrawFn) -> dict[str, list[Choice]]:
    """A few units whose choices cost differently on two kinds of data."""
    made = {}
    for unit in range(draw(st.integers(1, 3))):
        sizes = sorted(draw(st.sets(st.integers(1, 60), min_size=1, max_size=4)))
        cost = st.tuples(st.floats(0, 1), st.floats(0, 1))
        drawn = draw(st.lists(cost, min_size=len(sizes), max_size=len(sizes)))
        falling = zip(
            *(sorted(column, reverse=True) for column in zip(*drawn, strict=True)), strict=True
        )
        made[str(unit)] = [Choice(GRID, a, b) for a, b in zip(sizes, falling, strict=True)]
    return made


@given(two_kinds(), st.tuples(st.floats(0.01, 3), st.none() | st.floats(0.01, 3)))
def test_bounds_are_kept_wherever_they_can_be(
    units: dict[str, list[Choice]], bounds: tuple[float, float | None]
) -> None:
    chosen = reach(units, bounds)
    combinations = [
        dict(zip(units, combination, strict=True))
        for combination in itertools.product(*units.values())
    ]
    kept = [one for one in combinations if within(total(one), bounds)]
    assert within(total(chosen), bounds) == bool(kept)
    if kept and bounds[1] is None:
        used = sum(choice.nbytes for choice in chosen.values())
        least = min(sum(choice.nbytes for choice in one.values()) for one in kept)
        # With one bound the greedy walk is optimal but for its last step.
        hulls = [lower_hull(choices, price) for choices in units.values()]
        steps = [b.nbytes - a.nbytes for hull in hulls for a, b in itertools.pairwise(hull)]
        assert used <= least + max(steps, default=0)


def test_bytes_of_a_grid_are_those_of_its_parts_in_a_bundle() -> None:
    assert grid_bytes(IntGrid(4, 32, True), 10, 64) == 10 * 64 // 2 + 10 * 2 * 2
    assert grid_bytes(IntGrid(8, 32, False), 10, 64) == 10 * 64 + 10 * 2 * 2 + 10 * 2
    assert [grid.bits for grid in candidate_grids(True)] == [4, 4, 4, 8, 8]


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
            **UNSAID,
            "algorithm": "gptq",
            "max_bytes": max_bytes,
            "calibration": {"tokens": 256, "task_share": 0.25, "seed": 0},
        }
        merge = {"base": "dequantized", "grid": "nf4"}
        return {
            **{"merge": merge, "quantize": quantize, "bits": 4, "data": {"template": "auto"}},
            "eight_bit_inputs": True,
        }

    with pytest.raises(InputError, match="max_bytes: 1000 is out of reach; the smallest") as caught:
        run_stage(quantize_stage.run, tmp_path / "none", settings(1000), inputs)
    least = int(str(caught.value).rpartition(" ")[2])
    shares = []
    for extra in (0, 20_000, 10**9):
        folder = tmp_path / f"codes-{extra}"
        run_stage(quantize_stage.run, folder, settings(least + extra), inputs)
        quantized = QuantizedWeights.open(folder)
        grids = {name: quantized.grid(name) for name in quantized.plan.weights}
        bits = [grid.bits for grid in grids.values() if grid is not None]
        shares.append(sum(bits) / len(bits))
        assert quantized.plan.budget is not None
        assert len(quantized.plan.budget) == 9
        for layer in range(2):
            attention = f"model.layers.{layer}.self_attn"
            assert len({grids[f"{attention}.{part}_proj.weight"] for part in "qkv"}) == 1
    assert shares[0] == 4
    assert shares[0] <= shares[1] <= shares[2] == 8


def test_stage_finds_the_smallest_rounding_for_a_divergence(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    model = tiny_model("llama", tied=True)
    inputs = {
        "base": run_stage(base_stage.run, tmp_path / "base", {}, {"model": model}),
        "adapter": write_adapter(model, tmp_path / "adapter"),
        "calibration_rows": write_tiny_data(tmp_path)[0],
    }

    def settings(**bounds: float) -> dict[str, object]:
        quantize = {
            **UNSAID,
            "algorithm": "gptq",
            **bounds,
            "calibration": {"tokens": 512, "task_share": 0.25, "seed": 0},
        }
        data: dict[str, object] = {
            "template": "auto",
            "columns": {},
            "shape": "auto",
            "system": None,
        }
        return {
            **{"merge": {"base": "dequantized", "grid": "nf4"}, "quantize": quantize},
            **{"bits": 4, "data": data, "eight_bit_inputs": False},
        }

    sizes, found = [], []
    # A random model shrugs off rounding, so the bounds are small.
    for bound in (1e-3, 1.5e-4):
        folder = tmp_path / f"codes-{bound}"
        run_stage(
            quantize_stage.run, folder, settings(max_generic_kl=bound, max_task_kl=bound), inputs
        )
        result = json.loads((folder / "edgepeft.json").read_text())["result"]
        assert set(result["divergence"]) == {"task", "generic"}
        assert all(value <= bound for value in result["divergence"].values())
        found.append(result["divergence"]["generic"])
        plan = QuantizedWeights.open(folder).plan
        assert plan.budget is not None
        sizes.append(sum(entry.bytes for entry in plan.budget))
        assert set(plan.budget[0].predicted_kl) == {"task", "generic"}
    assert sizes[0] < sizes[1]
    assert found[0] > found[1]
    with pytest.raises(
        InputError, match=r"max_generic_kl: 1e-12 is out of reach .* the nearest is"
    ):
        run_stage(quantize_stage.run, tmp_path / "none", settings(max_generic_kl=1e-12), inputs)
