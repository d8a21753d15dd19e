"""GPTQ: against the paper's own equations, on its own objective, and through whole models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from edgepeft.calibration.data import Batch, calibration_batches
from edgepeft.calibration.layer_stream import LayerStream
from edgepeft.calibration.statistics import DAMPING, InputStatistics
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.skeleton import build_skeleton, linear_weight_names
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.quantization.algorithms import find_algorithm, is_calibrated, resolve_algorithm
from edgepeft.quantization.algorithms.gptq import search_ranges
from edgepeft.quantization.grids import BlockCodes, IntGrid, into_blocks, unpack_weight
from edgepeft.quantization.packed_weights import Parts
from edgepeft.quantization.rounding import round_each, round_in_sequence
from tests.conftest import ModelMaker
from tests.quantization.inputs import correlated, loss, statistics_of
from tests.quantization.weights import grids, normal
from tests.tiny import FAMILIES

gptq, rtn = find_algorithm("gptq"), find_algorithm("rtn")


def by_the_paper(weight: torch.Tensor, grid: IntGrid, hessian: torch.Tensor) -> torch.Tensor:
    """Equations (2) and (3) of the paper, one weight after the other, with H⁻¹ itself in float64.

    After each input its row and column are eliminated from H⁻¹; no Cholesky factor, no batching.
    """
    hessian = hessian.double()
    order = hessian.diagonal().argsort(descending=True, stable=True)
    damped = hessian + DAMPING * hessian.diagonal().mean() * torch.eye(len(order))
    inverse = torch.linalg.inv(damped)
    importance = torch.empty(len(order), dtype=torch.float64)
    left = inverse.clone()
    for index in order:
        importance[index] = 1 / left[index, index]
        left = left - torch.outer(left[:, index], left[index]) / left[index, index]
    blocks = into_blocks(weight, grid)
    scales, zeros = search_ranges(blocks, grid, into_blocks(importance[None].float(), grid)[0])
    rest, codes = weight.double().clone(), torch.zeros(weight.shape, dtype=torch.float64)
    for index in order:
        scale = scales[:, index // grid.block_size].double()
        zero = zeros[:, index // grid.block_size].double()
        codes[:, index] = (rest[:, index] / scale + zero).round().clamp(0, grid.top)
        error = rest[:, index] - (codes[:, index] - zero) * scale
        rest -= torch.outer(error / inverse[index, index], inverse[index])
        inverse = inverse - torch.outer(inverse[:, index], inverse[index]) / inverse[index, index]
    return codes


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("width", [64, 160])
def test_rounds_as_the_papers_equations_do(symmetric: bool, width: int) -> None:
    grid, weight = IntGrid(4, 32, symmetric), normal(24, width)
    statistics = statistics_of(correlated(400, width))
    wanted = by_the_paper(weight, grid, statistics.hessian)
    ours = gptq(weight, grid, statistics).codes.reshape(24, -1)[:, :width]
    # Both round the same numbers up to float32 noise, so a tie may fall the other way and drag others along.
    assert (ours != wanted).float().mean() < 0.01


@given(grids(), st.integers(0, 50))
def test_never_worse_than_rounding_to_nearest_on_its_own_objective(
    grid: IntGrid, seed: int
) -> None:
    weight, inputs = normal(16, 192, seed=seed), correlated(300, 192, seed=seed)
    ours = gptq(weight, grid, statistics_of(inputs))
    nearest = rtn(weight, grid)
    assert loss(weight, ours.dequantize(), inputs) <= loss(weight, nearest.dequantize(), inputs)


@given(grids(), st.integers(1, 200))
def test_any_width_is_rounded_to_a_code_near_it(grid: IntGrid, width: int) -> None:
    weight = normal(3, width)
    rounded = gptq(weight, grid, statistics_of(correlated(50, width)))
    assert rounded.dequantize().shape == weight.shape
    assert int(rounded.codes.max()) <= grid.top
    assert torch.isfinite(rounded.dequantize()).all()


@pytest.mark.parametrize(
    "inputs",
    [
        torch.zeros(10, 64),
        torch.ones(10, 64),
        torch.eye(64)[:3].repeat(4, 1),
        torch.full((1, 64), 1e4),
    ],
    ids=["silent", "all alike", "few alive", "one large"],
)
def test_singular_hessians_are_damped(inputs: torch.Tensor) -> None:
    weight = normal(8, 64)
    rounded = gptq(weight, IntGrid(4, 32, False), statistics_of(inputs))
    off = (rounded.dequantize() - weight).abs()
    assert torch.isfinite(off).all()
    assert off.max() < 0.25


def test_activations_that_are_not_finite_are_an_error() -> None:
    inputs = torch.ones(4, 32)
    inputs[1, 3] = float("inf")
    with pytest.raises(EdgepeftError, match="activations are not finite"):
        gptq(normal(2, 32), IntGrid(4, 32, False), statistics_of(inputs))


def test_without_statistics_it_searches_ranges_and_never_loses_to_the_nearest() -> None:
    weight, grid = normal(64, 128), IntGrid(4, 32, False)
    ours, nearest = (f(weight, grid).dequantize() - weight for f in (gptq, rtn))
    assert ours.square().sum() < 0.97 * nearest.square().sum()


def test_auto_calibrates_where_it_pays() -> None:
    assert [resolve_algorithm("auto", bits) for bits in (4, 8)] == ["gptq", "rtn"]
    assert resolve_algorithm("k_quant", 4) == "k_quant"
    assert [is_calibrated(name) for name in ("gptq", "rtn", "k_quant")] == [True, False, False]


def batches(vocabulary: int = 500) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    whole = torch.randint(3, vocabulary, (4, 24), generator=generator)
    part = torch.randint(3, vocabulary, (2, 9), generator=generator)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 5:] = False
    every = torch.ones_like(whole, dtype=torch.bool)
    return [Batch(whole, every, every, "generic"), Batch(part, mask, mask, "task")]


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_in_turn_compute_what_the_model_does(tiny_model: ModelMaker, family: str) -> None:
    folder = tiny_model(family)
    stream = LayerStream(build_skeleton(folder), SafetensorsSource.from_folder(folder))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = batches()[0].ids
    with torch.no_grad():
        inputs = stream.begin(ids, batches()[0].mask)
        for index in range(len(stream)):
            with stream.layer(index):
                inputs.hidden = stream.run(index, inputs)
        with stream.norm() as norm:
            ours = norm(inputs.hidden)
        theirs = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert all(parameter.is_meta for parameter in stream.model.parameters())


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3", "phi3"])
def test_a_model_rounded_in_sequence_stays_nearer_to_itself(
    tiny_model: ModelMaker, family: str
) -> None:
    folder = tiny_model(family)
    source = SafetensorsSource.from_folder(folder)
    grid = IntGrid(4, 32, False)
    chosen = dict.fromkeys(linear_weight_names(build_skeleton(folder)), grid)
    data = batches()
    units = {
        "gptq": round_in_sequence(
            LayerStream(build_skeleton(folder), source), data, source, chosen, gptq
        ),
        "rtn": round_each(source, chosen, rtn),
    }
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    weights = dict(model.named_parameters())
    original = {name: weights[name].data for name in chosen}
    with torch.no_grad():
        before = model(data[0].ids).logits
        distance = {}
        for algorithm, made in units.items():
            parts = {name: value for unit in made for name, value in unit.items()}
            assert set(parts) == set(chosen)
            for name, value in parts.items():
                width = original[name].shape[1]
                weights[name].data = unpack_weight(grid, width, value).dequantize()
            distance[algorithm] = float((model(data[0].ids).logits - before).square().mean())
    assert distance["gptq"] < 0.8 * distance["rtn"]


def test_each_layer_sees_the_rounded_layers_before_it(tiny_model: ModelMaker) -> None:
    folder = tiny_model("llama")
    source = SafetensorsSource.from_folder(folder)
    names = linear_weight_names(build_skeleton(folder))
    seen: list[torch.Tensor] = []

    class Spy:
        asymmetric_only, calibrated = False, True

        def __init__(self, spoil: bool) -> None:
            self.spoil = spoil

        def __call__(
            self, weight: torch.Tensor, grid: IntGrid, statistics: InputStatistics | None = None
        ) -> BlockCodes:
            assert statistics is not None
            assert statistics.tokens == sum(batch.tokens for batch in batches())
            seen.append(statistics.hessian.clone())
            return rtn(weight * (2.0 if self.spoil and len(seen) == 1 else 1.0), grid)

    for spoil in (False, True):
        seen.clear()
        grid = dict.fromkeys(names, IntGrid(8, 32, False))
        stream = LayerStream(build_skeleton(folder), source)
        for _ in round_in_sequence(stream, batches(), source, grid, Spy(spoil)):
            pass
        if not spoil:
            clean = list(seen)
    # Q, K and V, then O, then gate and up, then down, of two layers.
    assert len(seen) == len(clean) == 8
    assert all(torch.equal(a, b) for a, b in zip(clean[:4], seen[:4], strict=True))
    assert not any(torch.allclose(a, b) for a, b in zip(clean[4:], seen[4:], strict=True))


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_layers_error_is_how_far_the_rounded_layer_departs_from_the_exact_one(
    tiny_model: ModelMaker, family: str
) -> None:
    """Held against the model's own forward with the first layer alone rounded, and larger on a coarser grid."""
    folder = tiny_model(family)
    source = SafetensorsSource.from_folder(folder)
    names = linear_weight_names(build_skeleton(folder))
    found: dict[int, list[float]] = {}
    parts: Parts = {}
    for bits in (4, 8):
        grid = IntGrid(bits, 32, False)
        stream = LayerStream(build_skeleton(folder), source)
        chosen, found[bits] = dict.fromkeys(names, grid), []
        units = round_in_sequence(stream, batches(), source, chosen, gptq, found[bits])
        made = {name: value for unit in units for name, value in unit.items()}
        parts = parts or made
    assert len(found[4]) == len(stream)
    assert all(0 < fine < 0.3 * coarse for coarse, fine in zip(*found.values(), strict=True))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    layer = model.get_decoder().layers[0]
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    layer.register_forward_hook(
        lambda module, given, output: seen.append(
            (given[0], output[0] if isinstance(output, tuple) else output)
        )
    )
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for batch in batches():
            model(batch.ids)
        for name in (name for name in names if ".layers.0." in name):
            width = weights[name].shape[1]
            weights[name].data = unpack_weight(
                IntGrid(4, 32, False), width, parts[name]
            ).dequantize()
        for batch in batches():
            model(batch.ids)
    half = len(seen) // 2
    shares = [
        (((got - exact).norm(dim=-1) / (exact - before).norm(dim=-1))[batch.mask])
        for (before, exact), (_, got), batch in zip(
            seen[:half], seen[half:], batches(), strict=True
        )
    ]
    assert found[4][0] == pytest.approx(float(torch.cat(shares).mean()), rel=1e-3)


def test_calibration_takes_rows_and_text_up_to_what_was_asked_for(tmp_path: Path) -> None:
    from edgepeft.data.prompt import Prompter
    from edgepeft.data.rows import Row
    from tests.tiny import write_tiny_tokenizer

    prompter = Prompter.from_folder(write_tiny_tokenizer(tmp_path))
    rows = [Row(None, f"the sky is blue, {i} times blue", str(i)) for i in range(40)]
    wanted: dict[str, Any] = {"task_tokens": 60, "generic_tokens": 300, "seed": 0}
    text = "What is the colour of grass? " * 200
    made = calibration_batches(rows, prompter, text, **wanted)
    assert 360 <= sum(batch.tokens for batch in made) <= 420
    assert max(batch.ids.shape[1] for batch in made) == 256
    again = calibration_batches(rows, prompter, text, **wanted)
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(made, again, strict=True))
    with pytest.raises(InputError, match="calibration data is empty"):
        calibration_batches([], prompter, "", **wanted)
