"""The quantize stage: which weights go onto which grid, and what is found in its folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgepeft.checkpoints import base as base_stage
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.skeleton import build_skeleton, linear_weight_names
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.merging.stage import merged_source
from edgepeft.quantization import rounding
from edgepeft.quantization import stage as quantize_stage
from edgepeft.quantization.algorithms import find_algorithm
from edgepeft.quantization.grids import IntGrid, unpack_weight
from edgepeft.quantization.packed_weights import PLAN, QuantizedWeights
from edgepeft.quantization.rounding import round_weight
from edgepeft.quantization.settings import QuantizeSettings
from tests.conftest import ModelMaker
from tests.quantization.weights import normal
from tests.quantize_settings import UNSAID
from tests.stages import job_of, run_stage, write_adapter

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Run = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.fixture
def run(tiny_model: ModelMaker, tmp_path: Path) -> Run:
    """Quantize a tiny llama with a random adapter; the stage's folder and its job's inputs."""

    def quantize(*, tied: bool = True, bits: int = 4, **settings: Any) -> tuple[Path, Any]:
        model = tiny_model("llama", tied=tied)
        root = tmp_path / f"{tied}-{bits}-{len(list(tmp_path.iterdir()))}"
        inputs = {
            "base": run_stage(base_stage.run, root / "base", {}, {"model": model}),
            "adapter": write_adapter(model, root / "adapter"),
        }
        all_settings = {
            "merge": {"base": "dequantized", "grid": "nf4"},
            "quantize": {**UNSAID, **settings},
            "bits": bits,
        }
        job = job_of(QuantizeSettings, root, all_settings, inputs)
        folder = run_stage(quantize_stage.run, root / "quantized", all_settings, inputs)
        return folder, {"job": job, "model": model}

    return quantize


@pytest.mark.parametrize(
    ("tied", "bits", "settings"),
    [
        (True, 4, {}),
        (False, 8, {"symmetric": True, "block_size": 64, "head_block_size": 32}),
        (False, 4, {"algorithm": "k_quant", "block_size": 16}),
    ],
)
def test_codes_are_the_algorithms_on_the_merged_weights(
    run: Run, tied: bool, bits: int, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A few rows at a time, and not a divisor of any weight's.
    monkeypatch.setattr(rounding, "ELEMENTS_AT_ONCE", 7 * 64)
    folder, made = run(tied=tied, bits=bits, **settings)
    quantized, weights = QuantizedWeights.open(folder), merged_source(made["job"])
    linear = set(linear_weight_names(build_skeleton(made["model"])))
    assert set(quantized.plan.weights) == linear | ({EMBEDDING} if tied else {EMBEDDING, HEAD})
    algorithm = find_algorithm(settings.get("algorithm", "rtn"))
    for name, entry in quantized.plan.weights.items():
        grid = quantized.grid(name)
        assert grid is not None
        told = {**UNSAID, **settings}
        kept = (bits, told["block_size"]) if name in linear else (8, told["head_block_size"])
        assert grid == IntGrid(*kept, told["symmetric"])
        weight = weights.load(name)
        assert entry.shape == tuple(weight.shape)
        stored = unpack_weight(grid, weight.shape[1], quantized.parts(name))
        assert torch.equal(stored.dequantize(), algorithm(weight, grid).dequantize()), name


@pytest.mark.parametrize(
    ("head", "tied", "described", "weights"),
    [
        ("int4", True, "int4 asymmetric, blocks of 64", 15),
        ("int8", False, "int8 asymmetric, blocks of 64", 16),
        ("float", False, "float", 14),
    ],
)
def test_head_and_embedding_are_a_unit_of_their_own(
    run: Run, head: str, tied: bool, described: str, weights: int
) -> None:
    folder, _ = run(tied=tied, head=head)
    result = json.loads((folder / "edgepeft.json").read_text())["result"]
    quantized = QuantizedWeights.open(folder)
    assert result.pop("bytes") == (folder / "codes.safetensors").stat().st_size
    assert result == {
        "algorithm": "rtn",
        "linear": "int4 asymmetric, blocks of 32",
        "head": described,
        "embedding": described,
        "tied": tied,
        "divergence": None,
        "layer_errors": None,
    }
    assert len(quantized.plan.weights) == weights
    assert (quantized.plan.head, quantized.plan.embedding) == (
        (EMBEDDING, EMBEDDING) if tied else (HEAD, EMBEDDING)
    )
    assert (quantized.grid(EMBEDDING) is None) == (head == "float")


def test_each_weight_is_rounded_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rounded: list[str] = []
    original = rounding.round_weight

    def counting(name: str, *rest: Any) -> Any:
        rounded.append(name)
        return original(name, *rest)

    monkeypatch.setattr(rounding, "round_weight", counting)
    folder, _ = run()
    assert rounded == list(QuantizedWeights.open(folder).plan.weights)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value: float) -> None:
    weight = normal(4, 64)
    weight[2, 7] = value
    with pytest.raises(EdgepeftError, match=r"^model\.x\.weight: holds NaN or infinite values"):
        round_weight("model.x.weight", weight, IntGrid(4, 32, False), find_algorithm("rtn"))


def test_half_precision_weights_are_rounded_from_float32() -> None:
    weight, grid = normal(4, 64).to(torch.bfloat16), IntGrid(4, 32, False)
    parts = round_weight("w", weight, grid, find_algorithm("rtn"))
    assert parts["scales"].dtype == torch.float32
    wanted = find_algorithm("rtn")(weight.float(), grid).packed()
    assert all(torch.equal(parts[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda folder: (folder / PLAN).unlink(), f"{PLAN}: not readable"),
        (lambda folder: (folder / PLAN).write_text("{"), f"{PLAN}: not readable"),
        (
            lambda folder: (folder / "codes.safetensors").write_bytes(b"codes"),
            r"codes\.safetensors: not a readable safetensors file",
        ),
    ],
)
def test_damaged_output_is_refused_by_name(
    run: Run, spoil: Callable[[Path], object], match: str
) -> None:
    folder, _ = run()
    spoil(folder)
    with pytest.raises(InputError, match=match):
        QuantizedWeights.open(folder)


def test_codes_lie_in_one_file_however_many_there_are(run: Run) -> None:
    folder, _ = run(tied=False)
    assert sorted(path.name for path in folder.iterdir()) == [
        "codes.safetensors",
        "edgepeft.json",
        PLAN,
    ]
    stored = SafetensorsSource.from_file(folder / "codes.safetensors").specs
    assert {name.rpartition(".")[2] for name in stored} == {"codes", "scales", "zero_points"}
