"""What is said of bases in the formats of other tools that are damaged, half described, or asked too much of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgepeft.checkpoints import base as base_stage
from edgepeft.combination.extract import extract_folder
from edgepeft.errors import InputError
from edgepeft.models import inspect_model
from tests import published as tools
from tests.checkpoints.conftest import Publisher
from tests.project import Project, write_project
from tests.published import change
from tests.stages import run_stage, write_adapter

Tensors = dict[str, torch.Tensor]
MODULE = "model.layers.0.self_attn.q_proj"


def _without(part: str) -> Callable[[Tensors], None]:
    def spoil(tensors: Tensors) -> None:
        del tensors[f"{MODULE}.{part}"]

    return spoil


def _put(part: str, make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], None]:
    def spoil(tensors: Tensors) -> None:
        tensors[f"{MODULE}.{part}"] = make(tensors[f"{MODULE}.{part}"]).contiguous()

    return spoil


def spoilt(folder: Path, copy: Path, spoil: Callable[[Tensors], None]) -> Path:
    """A copy of a checkpoint whose tensors are changed by ``spoil``."""
    change(folder, copy)
    tensors = load_file(copy / "model.safetensors")
    spoil(tensors)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


@pytest.mark.parametrize(
    ("case", "spoil", "words"),
    [
        ("gptq", _without("scales"), "lacks .*q_proj.scales; the checkpoint is not whole"),
        ("gptq", _without("qzeros"), "lacks .*q_proj.qzeros; the checkpoint is not whole"),
        ("gptq", _without("qweight"), "holds .*q_proj.g_idx, and no .*q_proj.qweight"),
        ("gptq-act-order", _without("g_idx"), "lacks .*q_proj.g_idx; the checkpoint is not whole"),
        ("gptq", _put("g_idx", lambda t: t + 1), "q_proj.g_idx names group 2, and .* has 2 groups"),
        ("gptq", _put("g_idx", lambda t: t - 1), "q_proj.g_idx names group -1"),
        ("gptq", _put("scales", lambda t: t[:1]), r"scales is \(1, 64\), and 64 inputs in groups"),
        ("gptq", _put("scales", lambda t: t.int()), "scales is I32, and gptq stores F32 or F16"),
        ("gptq", _put("qzeros", lambda t: t[:, 1:]), r"qzeros is \(2, 7\)"),
        ("gptq", _put("qweight", lambda t: t[1:]), r"qweight is \(7, 64\), and 64 inputs of 4"),
        ("awq", _put("scales", lambda t: t.T), r"scales is \(64, 2\)"),
        ("awq", _without("scales"), "lacks .*q_proj.scales"),
        ("fp8-blocks", _without("weight_scale_inv"), "lacks .*q_proj.weight_scale_inv"),
        ("fp8-blocks", _put("weight_scale_inv", lambda t: t[1:]), r"\(1, 2\), .*for each 32 by 32"),
        ("fp8-blocks", _put("weight", torch.Tensor.float), "no FP8 codes in .*q_proj.weight"),
        ("packed", _without("weight_scale"), "lacks .*q_proj.weight_scale"),
        ("packed", _without("weight_packed"), "and no .*q_proj.weight_packed"),
        (
            "packed",
            _put("weight_shape", lambda t: t + 8),
            r"weight_packed is \(64, 8\), and .*\(72",
        ),
        ("packed-asymmetric", _without("weight_zero_point"), "lacks .*q_proj.weight_zero_point"),
        ("compressed-int8", _without("weight_scale"), "lacks .*q_proj.weight_scale"),
    ],
)
def test_damaged_checkpoints_are_named(
    published: Publisher, tmp_path: Path, case: str, spoil: Callable[[Tensors], None], words: str
) -> None:
    folder = spoilt(published(case), tmp_path / "spoilt", spoil)
    with pytest.raises(InputError, match=words) as caught:
        inspect_model(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("case", "said", "words"),
    [
        (
            "gptq",
            {"quant_method": "hqq"},
            "quant_method: hqq is not supported; supported: awq, bits",
        ),
        ("gptq", {"quant_method": "mxfp4"}, "quant_method: mxfp4 is not supported"),
        ("gptq", {"quant_method": None}, "quant_method: is missing"),
        ("gptq", {"bits": None}, "bits: is missing, so nothing says how to read"),
        ("gptq", {"group_size": None}, "group_size: is missing"),
        ("gptq", {"bits": 5}, "bits: 5 is not supported; supported: 2, 3, 4, 8"),
        ("gptq", {"bits": "4"}, "bits: '4' is no whole number"),
        ("gptq", {"group_size": 0}, "group_size: 0 is neither"),
        ("gptq", {"checkpoint_format": "marlin"}, "checkpoint_format: marlin packing is not"),
        ("gptq", {"is_marlin_format": True}, "is_marlin_format: marlin packing is not supported"),
        ("gptq", {"bits": 8}, "qweight is"),
        ("gptq", {"group_size": 16}, r"scales is \(5, 64\), and 160 inputs in groups of 16"),
        ("gptq", {"quant_method": "fp8"}, "holds none in FP8"),
        ("gptq", {"quant_method": "bitsandbytes"}, "neither this nor load_in_8bit is set"),
        ("fp8-blocks", {**tools.gptq()}, "weights are gptq's, and it holds no qweight"),
        ("fp8-blocks", {"weight_block_size": [32]}, "weight_block_size: .* no block of rows"),
        ("fp8-blocks", {"weight_block_size": None}, "calls for one scale for all, or one a row"),
        ("awq", {"version": "gemv"}, "version: gemv packing is not supported, only gemm"),
        ("awq", {"zero_point": False}, "zero_point: false is not supported"),
        ("awq", {"bits": None}, "bits: is missing"),
        ("packed", {"format": "marlin-24"}, "format: marlin-24 is not supported; supported: pack-"),
        ("packed", {"format": None}, "format: is missing"),
        ("packed", {"config_groups": {}}, "config_groups: is missing"),
        ("packed", {"config_groups": {"a": {"targets": ["Linear"]}}}, "config_groups.a: lacks"),
        (
            "packed",
            {"sparsity_config": {"format": "sparse-24-bitmask"}},
            "sparsity_config: sparse-",
        ),
        (
            "packed",
            {"transform_config": {"config_groups": {"R1": {"type": "hadamard"}}}},
            "transform_config: weights under a transform are not supported",
        ),
    ],
)
def test_what_a_configuration_lacks_or_nobody_reads_is_named(
    published: Publisher, tmp_path: Path, case: str, said: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        inspect_model(change(published(case), tmp_path / "said", **said))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("case", "spoil", "words"),
    [
        (
            "gptq",
            _put("qzeros", lambda t: t | -1),
            "readers of the gptq format .* save it as gptq_v2",
        ),
        ("gptq", _put("scales", lambda t: t * torch.nan), "q_proj.weight holds NaN or infinite"),
        ("fp8-blocks", _put("weight_scale_inv", lambda t: t * torch.inf), "holds NaN or infinite"),
        (
            "gptq",
            lambda tensors: [
                tensors.pop(f"{MODULE}.{one}") for one in ("qweight", "qzeros", "scales", "g_idx")
            ],
            r"lacks .*q_proj.weight \(1 missing\)",
        ),
    ],
)
def test_values_without_a_meaning_stop_the_base_stage(
    published: Publisher, tmp_path: Path, case: str, spoil: Callable[[Tensors], None], words: str
) -> None:
    folder = spoilt(published(case), tmp_path / "spoilt", spoil)
    with pytest.raises(InputError, match=words):
        run_stage(base_stage.run, tmp_path / "base", {}, {"model": folder})


def test_an_adapter_is_extracted_from_what_was_not_rounded(
    published: Publisher, tmp_path: Path
) -> None:
    folder = published("gptq")
    with pytest.raises(InputError, match="rounded already; extracting an adapter needs them as"):
        extract_folder(folder, folder.with_name("float"), 4, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def project(published: Publisher, tmp_path: Path) -> Project:
    """A recipe whose model is GPTQ's."""
    return write_project(published("gptq"), tmp_path)


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        ([], "method.name: qlora rounds the base to nf4, and its weights are gptq's already; use"),
        (["method.name=lora", "method.grid=int8"], "method.name: lora rounds the base to int8"),
        (
            ["method.name=lora", "merge.grid=nf4"],
            "merge.grid: nf4: the weights of model are gptq's",
        ),
        (["method.name=lora", "merge.base=requantized"], "merge.base: requantized: .* gptq's"),
        (["method.name=lora", "targets=[cpu-nf4]"], "targets: cpu-nf4 contains codes of bitsandb"),
    ],
)
def test_what_does_not_go_with_such_a_base_is_named(
    project: Project, overrides: list[str], match: str
) -> None:
    project.refuses(*overrides, match=match)


def test_such_a_base_is_trained_on_and_merged_into_as_it_is(
    project: Project, published: Publisher
) -> None:
    assert project.plan("method.name=lora").resolved.recipe.merge.grid == "none"
    assert "train" in project.keys("method.name=qlora", "method.grid=none")
    write_adapter(published("gptq").with_name("float"), project.folder / "adapter")
    project.recipe["adapter"] = "adapter"
    plan = project.plan()
    assert plan.resolved.adapter is not None
    assert plan.resolved.adapter.provenance.grid.kind == "none"
    assert not any("assumed" in note for note in plan.notes)
    (project.folder / "adapter" / "README.md").write_text("- load_in_4bit: True\n")
    project.refuses(match=r"adapter: adapter was trained on fp4 \(README.md\), and .* gptq's")
