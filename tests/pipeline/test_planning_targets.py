"""Targets in a plan: shared rounding, grids that a device's kernels take, devices of the recipe's own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgepeft.config.target_sections import Quantize
from edgepeft.errors import InputError
from edgepeft.pipeline.resources import estimate
from edgepeft.pipeline.sizes import bundle_bytes
from edgepeft.targets import TargetProfile, all_targets, find_target
from tests.conftest import ModelMaker
from tests.project import Project, write_project

EVERY_GPU = (
    "targets=[cuda-int4, webgpu-int4, webgpu-int4-fp32, cpu-int4, trt-rtx-int4, directml-int4]"
)


def test_targets_of_the_same_grid_share_one_rounding(project: Project) -> None:
    plan = project.plan(EVERY_GPU)
    assert [stage.name for stage in plan.kind("quantize")] == [
        "quantize-int4",
        "quantize-int4-head-float",
        "quantize-int4-symmetric-true-head-float",
    ]
    shared = [
        target.name
        for target in plan.resolved.targets
        if dict(plan.stage(f"export-{target.name}").inputs)["quantize"] == "quantize-int4"
    ]
    assert shared == ["cuda-int4", "webgpu-int4", "webgpu-int4-fp32", "cpu-int4"]
    assert len(plan.kind("train")) == len(plan.kind("merge")) == 1
    assert project.keys("targets=[cpu-int4]")["quantize-int4"] == plan.stage("quantize-int4").key


def test_a_default_gives_way_to_the_kernels_and_says_so(project: Project) -> None:
    plan = project.plan("targets=[trt-rtx-int4]")
    grid = plan.resolved.target("trt-rtx-int4").grid
    assert (grid.symmetric, grid.head, grid.block_size) == (True, "float", 32)
    assert (
        "trt-rtx-int4: quantize uses symmetric: true, head: float, as its kernels need"
        in plan.notes
    )
    assert not project.plan("targets=[cuda-int4, cpu-int4]").notes
    assert bundle_bytes(plan.resolved, plan.resolved.targets[0]) > 0
    assert len(estimate(plan, 1e9)) == len(plan.stages)


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (
            ["targets=[cuda-int4]", "quantize.block_size=16"],
            r"quantize.block_size: cuda-int4 does not support 16; choose one of 32, 64, 128",
        ),
        (
            ["targets=[{name: cuda-int4, quantize: {head_block_size: 16}}]"],
            r"cuda-int4: quantize.head_block_size: cuda-int4 does not support 16; choose one of 32, 64, 128",
        ),
        (
            ["targets=[directml-int4]", "quantize.head=int4"],
            r"quantize.head: directml-int4 does not support int4; choose one of float",
        ),
        (
            ["targets=[{name: trt-rtx-int4, quantize: {symmetric: false}}]"],
            r"targets: trt-rtx-int4: quantize.symmetric: trt-rtx-int4 does not support false; choose one of true",
        ),
        (
            ["targets=[trt-rtx-int4]", "quantize.max_bytes=10MB"],
            r"quantize.max_bytes: chooses a grid for each layer, and trt-rtx-int4 supports one",
        ),
        (
            ["targets=[{name: mine, like: cuda-int44}]"],
            r"targets: cuda-int44: .*did you mean cuda-int4\?",
        ),
        (["targets=[{name: cpu-int4, like: cuda-int4}]"], r"cpu-int4: is a built-in target"),
        (["targets=[{name: a/b, like: cuda-int4}]"], r"targets.0.name"),
        (
            ["targets=[{name: cuda-fp16, accuracy_level: 4}]"],
            r"cuda-fp16: accuracy_level is for integer weights, and these are fp16",
        ),
        (["targets=[{name: mine, like: cuda-int4, blocks: 3}]"], r"blocks"),
    ],
)
def test_what_a_device_does_not_take_is_named(
    project: Project, overrides: list[str], match: str
) -> None:
    project.refuses(*overrides, match=match)


@pytest.mark.parametrize(
    ("overrides", "blocks"),
    [
        ([], 64),
        (["quantize.head=int4"], 32),
        (["quantize.block_size=128"], 128),
        (["quantize.head_block_size=16"], 16),
        (["targets=[{name: cpu-int4, quantize: {head_block_size: 128}}]"], 128),
        (["targets=[cpu-int8]"], 32),
    ],
)
def test_a_head_of_8_bits_on_layers_of_4_has_longer_blocks(
    project: Project, overrides: list[str], blocks: int
) -> None:
    plan = project.plan("targets=[cpu-int4]", *overrides)
    (stage,) = plan.kind("quantize")
    assert stage.settings.identity()["quantize"]["head_block_size"] == blocks
    assert not plan.notes


def test_head_blocks_give_way_where_a_devices_kernels_lack_them(project: Project) -> None:
    device = replace(find_target("cpu-int4"), block_sizes=(16, 32, 128))
    assert device.grid(Quantize(), {}).head_blocks(4) == 32
    assert device.grid(Quantize(block_size=128), {}).head_blocks(4) == 128
    with pytest.raises(InputError, match="head_block_size: cpu-int4 does not support 64"):
        device.grid(Quantize(head_block_size=64), {})
    # Where the head is in floating point, nobody asks.
    project.plan("targets=[trt-rtx-int4]", "quantize.head_block_size=16")


def test_a_device_of_the_recipes_own(project: Project) -> None:
    own = (
        "targets=[cpu-int4, {name: van, like: cuda-int4, accuracy_level: 4, quantize: {block_size: 64}, "
        "session_options: {session.intra_op.allow_spinning: '0'}, graph_options: {enable_cuda_graph: 'true'}}]"
    )
    plan = project.plan(own)
    van = plan.resolved.target("van").profile
    assert (van.name, van.provider, van.accuracy_level) == ("van", "CUDAExecutionProvider", 4)
    assert van.graph_options["enable_cuda_graph"] == "true"
    assert van.graph_options["enable_cuda_fpa_intb_gemm"] == "true"
    assert plan.resolved.target("van").grid.block_size == 64
    assert plan.stage("export-van").settings.identity()["accuracy_level"] == 4
    assert plan.stage("export-cpu-int4").key == project.keys()["export-cpu-int4"]
    assert dict(plan.stage("export-van").inputs)["quantize"] == "quantize-int4-block-64"
    # The resolved recipe, which a run keeps, says the same.
    resolved = project.folder / "again.yaml"
    resolved.write_text(plan.resolved.file.resolved_yaml())


def test_a_model_whose_settings_a_provider_passes_over_is_refused(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    """WebGPU's attention has no softcap; tests/exporters/test_gpu_targets.py shows what comes of it."""
    project = write_project(tiny_model("gemma2"), tmp_path)
    with pytest.raises(InputError, match=r"webgpu-int4: .* ignores attn_logit_softcapping"):
        project.plan("targets=[webgpu-int4]")
    assert project.plan("targets=[cuda-int4]").resolved.targets


def test_what_can_run_a_bundle_here_is_part_of_its_verification(project: Project) -> None:
    settings = project.plan("targets=[cuda-fp16]").stage("verify-cuda-fp16").settings
    assert settings.identity()["execution"]["provider"] == "CPUExecutionProvider"
    assert "edgepeft[cuda]" in settings.identity()["execution"]["missing"]


@pytest.mark.parametrize("name", list(all_targets()))
def test_every_profile_survives_json(name: str) -> None:
    profile = find_target(name)
    assert TargetProfile.from_dict(json.loads(json.dumps(profile.as_dict()))) == profile
