"""Hot-swap targets in a plan: a base that no adapter changes, adapters that stand alone, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepeft.errors import InputError
from edgepeft.pipeline.resources import estimate
from tests.conftest import ModelMaker
from tests.project import Project, write_project
from tests.stages import write_adapter

SWAPPED = "targets=[{name: cpu-int4, adapters: hot-swap}]"


@pytest.fixture
def project(tiny_model: ModelMaker, tmp_path: Path) -> Project:
    return write_project(tiny_model("llama", intermediate=192), tmp_path)


def test_the_base_is_built_once_whatever_the_adapter(project: Project) -> None:
    names = [stage.name for stage in project.plan(SWAPPED).stages]
    assert names == [
        *("base", "train", "quantize-int4-base", "export-cpu-int4", "adapt-cpu-int4-recipe"),
        *("witness-swapped", "float-graph-cpu-int4", "reference", "verify-cpu-int4"),
    ]
    first = project.keys(SWAPPED)
    second = project.keys(SWAPPED, "training.seed=7")
    same = {name for name in first if first[name] == second[name]}
    assert same == {"base", "quantize-int4-base", "export-cpu-int4"}
    # Trained on another grid, the adapter has another base under it.
    other = project.keys(SWAPPED, "method.grid=none")
    assert other["quantize-int4-base"] != first["quantize-int4-base"]


def test_merged_and_swapped_stand_side_by_side(project: Project) -> None:
    plan = project.plan("targets=[cpu-int4, {name: mine, like: cpu-int4, adapters: hot-swap}]")
    assert [stage.name for stage in plan.kind("quantize")] == [
        "quantize-int4",
        "quantize-int4-base",
    ]
    assert dict(plan.stage("export-cpu-int4").inputs)["quantize"] == "quantize-int4"
    assert dict(plan.stage("export-mine").inputs)["quantize"] == "quantize-int4-base"
    assert "adapter" not in plan.stage("verify-cpu-int4").inputs
    assert (
        project.keys("targets=[cpu-int4]")["verify-cpu-int4"] == plan.stage("verify-cpu-int4").key
    )


def test_further_adapters_have_references_of_their_own(project: Project) -> None:
    project.use_adapter()
    write_adapter(project.folder / "model", project.folder / "other", seed=1)
    alone = project.keys(SWAPPED)
    project.recipe["adapters"] = [{"name": "other", "path": "other", "test": "train.jsonl"}]
    plan = project.plan(SWAPPED)
    assert plan.stage("adapt-cpu-int4-other").final == Path(
        plan.stage("export-cpu-int4").final / "adapters" / "other"
    )
    assert dict(plan.stage("verify-cpu-int4-other").inputs) == {
        "bundle": "export-cpu-int4",
        "reference": "reference-other",
        "base": "base",
        "adapter": "adapt-cpu-int4-other",
        "witness": "witness-other",
        "float-graph": "float-graph-cpu-int4-other",
    }
    keys = {stage.name: stage.key for stage in plan.stages}
    assert {name: keys[name] for name in alone} == alone
    assert {entry.name for entry in estimate(plan, flops_per_second=1e10)} == set(keys)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("targets=[{name: cuda-int4, adapters: hot-swap}]", "works on CPU targets only"),
        ("method.name=dora", "method.name: hot-swap targets can't load adapters of dora"),
        ("method.name=ia3", "method.name: hot-swap targets can't load adapters of ia3"),
        ("method.options.use_dora=true", "method.options.use_dora: hot-swap targets load plain"),
        ("method.options.modules_to_save=[norm]", "method.options.modules_to_save: hot-swap"),
        ("method.options.bias=all", "method.options.bias: hot-swap targets have the same biases"),
        ("method.target_modules=[q_proj, lm_head]", "one embedding and head .* leave out lm_head"),
        ("method.rank=128", "adapter_rank: 64 is lower than method.rank, 128"),
        ("merge.base=requantized", "merge.base: requantized needs a merge"),
        ("adapters=[{name: recipe, path: other}]", "is the name of the recipe's own adapter"),
        ("adapters=[{name: base, path: other}]", "base is taken"),
        ("adapters=[{name: a, path: other}, {name: a, path: x}]", "adapters names a twice"),
        ("adapters=[{name: a, path: nowhere}]", "no such adapter folder"),
    ],
)
def test_what_cannot_be_swapped_is_refused(project: Project, override: str, message: str) -> None:
    write_adapter(project.folder / "model", project.folder / "other", seed=1)
    with pytest.raises(InputError, match=message):
        project.plan(SWAPPED, override)


def test_adapters_without_a_place_for_them_are_refused(project: Project) -> None:
    with pytest.raises(InputError, match="no target has adapters: hot-swap"):
        project.plan("targets=[cpu-int4]", "adapters=[{name: a, path: other}]")
