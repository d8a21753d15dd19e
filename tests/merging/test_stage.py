"""The merge stage's folder, and which weights a later stage reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from edgepeft.adapters.provenance import Provenance, TrainingGrid
from edgepeft.checkpoints import base as base_stage
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.merging import stage as merge_stage
from edgepeft.merging.stage import job_provenance, merged_source, open_weights
from tests.conftest import ModelMaker
from tests.stages import make_job, run_stage, write_adapter
from tests.tiny import load_in_4_bits

DEQUANTIZED = {"merge": {"base": "dequantized", "grid": "auto"}}
ORIGINAL = {"merge": {"base": "original", "grid": "auto"}}
NAME = "model.layers.0.self_attn.q_proj.weight"


def inputs_for(model: Path, root: Path, **lora: Any) -> dict[str, Path]:
    base = run_stage(base_stage.run, root / "base", {}, {"model": model})
    return {"base": base, "adapter": write_adapter(model, root / "adapter", **lora)}


def test_merged_folder_is_a_checkpoint_that_transformers_loads(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    model = tiny_model("llama", dtype="bfloat16")
    inputs = inputs_for(model, tmp_path)
    folder = run_stage(merge_stage.run, tmp_path / "merged", ORIGINAL, inputs)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert loaded.dtype == torch.float32
    plain = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    expected = peft.PeftModel.from_pretrained(plain, str(inputs["adapter"])).merge_and_unload()
    for name, parameter in expected.named_parameters():
        assert torch.equal(loaded.get_parameter(name), parameter), name
    stored = SafetensorsSource.from_folder(folder).specs
    # bfloat16 holds these exactly, so they are not blown up; merged weights would not fit it.
    assert stored["model.norm.weight"].dtype == torch.bfloat16
    assert stored[NAME].dtype == torch.float32
    transformers.AutoTokenizer.from_pretrained(folder)
    assert json.loads((folder / "edgepeft.json").read_text())["result"] == {"tensors": len(stored)}


def test_original_and_dequantized_are_different_bases(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    inputs = inputs_for(tiny_model("llama"), tmp_path)
    original, on_grid = (
        merged_source(make_job(tmp_path, settings, inputs)).load(NAME)
        for settings in (ORIGINAL, DEQUANTIZED)
    )
    assert 0.001 < (original - on_grid).abs().max() < 0.1


def test_the_adapters_own_record_says_what_was_quantized(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    inputs = inputs_for(tiny_model("llama"), tmp_path)
    Provenance(TrainingGrid("nf4"), (NAME,), "edgepeft").write(inputs["adapter"])
    # What the recipe says of adapters made elsewhere must not override it.
    declared = {"merge": {"base": "dequantized", "grid": "none"}}
    source = merged_source(make_job(tmp_path, declared, inputs))
    original = merged_source(make_job(tmp_path, ORIGINAL, inputs))
    changed = [
        name
        for name in source.specs
        if not torch.equal(source.load(name), original.load(name).float())
    ]
    assert changed == [NAME]


@pytest.mark.parametrize(("grid", "kind"), [("auto", "nf4"), ("fp4", "fp4"), ("none", "none")])
def test_the_recipe_decides_for_an_adapter_without_record(
    tiny_model: ModelMaker, tmp_path: Path, grid: str, kind: str
) -> None:
    model = tiny_model("llama")
    adapter = write_adapter(model, tmp_path / "adapter", target_modules=["q_proj"])
    inputs = {"adapter": adapter, "base": model}
    job = make_job(tmp_path, {"merge": {"base": "dequantized", "grid": grid}}, inputs)
    assert job_provenance(job).grid.kind == kind


def test_later_stages_read_the_kept_merge_or_do_it_again(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    inputs = inputs_for(tiny_model("llama"), tmp_path)
    kept = run_stage(merge_stage.run, tmp_path / "merged", DEQUANTIZED, inputs)
    lazily = open_weights(make_job(tmp_path, DEQUANTIZED, inputs))
    stored = open_weights(make_job(tmp_path, {}, {"base": inputs["base"], "merge": kept}))
    assert list(stored.specs) == list(lazily.specs)
    assert all(torch.equal(stored.load(name), lazily.load(name)) for name in lazily.specs)


def test_requantized_is_what_pefts_own_merge_into_a_4_bit_model_leaves(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    from bitsandbytes import functional

    model = tiny_model("llama")
    inputs = inputs_for(model, tmp_path)
    settings = {"merge": {"base": "requantized", "grid": "nf4"}}
    ours = merged_source(make_job(tmp_path, settings, inputs)).load(NAME)
    loaded = load_in_4_bits(model)
    theirs = peft.PeftModel.from_pretrained(loaded, str(inputs["adapter"])).merge_and_unload()
    weight = theirs.get_parameter(NAME)
    plain = functional.dequantize_4bit(weight.data, weight.quant_state).float()
    assert (plain == ours).float().mean() > 0.99
    on_grid = merged_source(
        make_job(tmp_path, {"merge": {"base": "dequantized", "grid": "nf4"}}, inputs)
    ).load(NAME)
    assert (plain == on_grid).float().mean() < 0.5
