"""Trainings that change embedding and head: what the plan makes of them, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgepeft.adapters.tables import tables_of
from edgepeft.checkpoints import base as base_stage
from edgepeft.checkpoints.base_stage import BaseSettings
from edgepeft.combination.folders import Parts
from edgepeft.errors import InputError
from edgepeft.evaluation.witness.models import Sources, load_adapted
from edgepeft.merging import stage as merge_stage
from tests.adapters.test_bases import BOTH, EMBEDDING, IDS, logits_of, write_adapter
from tests.conftest import ModelMaker
from tests.project import Project, write_project
from tests.stages import run_stage

EACH = "method.target_modules=[q_proj, embed_tokens, lm_head]"
EMBEDDED = "method.target_modules=[q_proj, embed_tokens]"
LORA, TIED = "method.name=lora", "method.options.ensure_weight_tying=true"


@pytest.fixture
def project(tiny_model: ModelMaker, tmp_path: Path) -> Project:
    return write_project(tiny_model("llama", tied=True), tmp_path)


@pytest.mark.parametrize(
    ("overrides", "parted"),
    [
        ([EACH], True),
        ([EMBEDDED], True),
        (["method.target_modules=.*(q_proj|lm_head)"], True),
        (["method.target_modules=.*q_proj"], False),
        ([LORA, EMBEDDED, TIED], False),
        (["method={name: trainable_tokens, target_modules: [embed_tokens]}"], False),
        (["method={name: full, target_modules: [embed_tokens]}"], False),
        ([], False),
    ],
)
def test_a_tied_base_gets_a_head_where_factors_part_it(
    project: Project, overrides: list[str], parted: bool
) -> None:
    if "trainable_tokens" in str(overrides):
        overrides = [*overrides, "method.options.token_indices=[3]"]
    plan = project.plan(*overrides)
    assert plan.stage("base").settings == BaseSettings(own_head=parted)
    assert any("32,768 weights more" in note for note in plan.notes) == parted


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        ([EMBEDDED, TIED], "ensure_weight_tying: .* full precision alone; set method.grid: none"),
        (["method.name=dora", EMBEDDED, TIED], "ensure_weight_tying: DoRA learns two lengths"),
        ([LORA, "method.options.init_lora_weights=pissa", EACH], "pissa begins inside linear"),
        ([EMBEDDED, "data.tokens=[<on>]"], "data.tokens: single rows are trained of an embedding"),
        ([EMBEDDED, "method.options.trainable_token_indices=[3]"], "indices: single rows are"),
        ([LORA, "method.options.target_parameters=[lm_head.weight]"], "belongs to a module"),
        (["method.name=loha", "method.target_modules=.*embed_tokens"], "LOHA can't adapt"),
        (["training.objective=preference", EACH], "leave the head out of method.target_modules"),
        (["training.objective=preference", "method.options.bias=all"], "leave .*options.bias out"),
    ],
)
def test_what_does_not_go_together_is_said_by_the_plan(
    project: Project, overrides: list[str], match: str
) -> None:
    if "preference" in str(overrides):
        row = '{"prompt": "a", "chosen": "b", "rejected": "c"}\n'
        (project.folder / "train.jsonl").write_text(row * 8)
    project.refuses(*overrides, match=match)


def test_what_is_trained_of_tables_is_counted(project: Project) -> None:
    from edgepeft.pipeline.sizes import adapter_parameters

    alone, more = (
        adapter_parameters(
            project.plan("method.rank=4", f"method.target_modules=[{named}]").resolved
        )
        for named in ("q_proj", "q_proj, embed_tokens, lm_head")
    )
    assert alone is not None
    assert more == alone + 2 * 4 * (512 + 64)


def test_two_lengths_of_one_tensor_are_refused(tiny_model: ModelMaker, tmp_path: Path) -> None:
    lora: dict[str, Any] = {"use_dora": True, "ensure_weight_tying": True}
    model = tiny_model("llama", tied=True)
    adapter = write_adapter(model, tmp_path / "adapter", target_modules=EMBEDDING, **lora)
    with pytest.raises(InputError, match="DoRA learns two lengths"):
        tables_of(adapter, {"peft_type": "LORA", **lora})


def test_an_adapter_without_biases_is_plain_whatever_it_says(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    said: dict[str, Any] = {"bias": "lora_only", "target_modules": ["q_proj"]}
    kept = write_adapter(tiny_model("llama"), tmp_path / "kept", **said)
    assert len(Parts.open([kept]).factors) == 1
    changed = write_adapter(tiny_model("qwen2"), tmp_path / "changed", **said)
    with pytest.raises(InputError, match="changes the base's biases, which factors can't"):
        Parts.open([changed])


@pytest.mark.parametrize("lora", [{}, {"ensure_weight_tying": True}])
def test_the_witness_of_a_merge_rounded_again_adds_each_change_once(
    tiny_model: ModelMaker, tmp_path: Path, lora: dict[str, Any]
) -> None:
    model = tiny_model("llama", tied=True)
    targets = EMBEDDING if lora else BOTH
    adapter = write_adapter(model, tmp_path / "adapter", target_modules=targets, **lora)
    base = run_stage(base_stage.run, tmp_path / "base", {"own_head": not lora}, {"model": model})
    settings = {"merge": {"base": "requantized", "grid": "nf4"}}
    inputs = {"base": base, "adapter": adapter}
    merged = run_stage(merge_stage.run, tmp_path / "merge", settings, inputs)
    grid = {"kind": "nf4", "block_size": 64, "double_quant": True}
    witness = load_adapted(Sources(model, adapter, False, "requantized", grid, None))
    with torch.no_grad():
        found = witness(IDS).logits[0]
    torch.testing.assert_close(found, logits_of(merged), atol=1e-4, rtol=0)
