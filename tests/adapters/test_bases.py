"""Bases as adapters need them: a resized vocabulary, a head apart from a tied embedding, planned and staged.

What comes out is held against what transformers and PEFT do by themselves: ``resize_token_embeddings`` and
``PeftModel.from_pretrained`` on the base as it was given.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from edgepeft.checkpoints import base as base_stage
from edgepeft.checkpoints.base_stage import BaseSettings
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.errors import InputError
from edgepeft.evaluation.reference import adapted
from edgepeft.merging import stage as merge_stage
from tests.conftest import ModelMaker
from tests.project import Project, write_project
from tests.stages import make_job, run_stage
from tests.tiny import build_tokenizer
from tests.tiny_gguf import write_tiny_gguf

IDS = torch.arange(4, 60)[None]
MERGE = {"merge": {"base": "dequantized", "grid": "none"}}


def load(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def write_adapter(model: Path, folder: Path, *, rows: int | None = None, **lora: Any) -> Path:
    """An adapter that PEFT made, trained if random numbers on all that it trains are training."""
    base = load(model)
    if rows is not None:
        base.resize_token_embeddings(rows, mean_resizing=False)
    options = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], **lora}
    if options.pop("ia3", False):
        modules = ["k_proj", "v_proj", "down_proj"]
        config: Any = IA3Config(target_modules=modules, feedforward_modules=["down_proj"])
    else:
        config = LoraConfig(**options)
    config.task_type = "CAUSAL_LM"
    wrapped = get_peft_model(base, config)
    generator = torch.Generator().manual_seed(3)
    for _, parameter in sorted(wrapped.named_parameters()):
        if parameter.requires_grad:
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.1
    wrapped.save_pretrained(str(folder))
    return folder


def by_peft(model: Path, adapter: Path, rows: int | None = None) -> torch.Tensor:
    """Logits of the unmerged adapter on the base as it was given."""
    base = load(model)
    if rows is not None:
        base.resize_token_embeddings(rows, mean_resizing=False)
    with torch.no_grad():
        logits: torch.Tensor = PeftModel.from_pretrained(base, str(adapter)).eval()(IDS).logits[0]
    return logits


def logits_of(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = load(folder).eval()(IDS).logits[0]
    return logits


EMBEDDING, HEAD = ["q_proj", "embed_tokens"], ["q_proj", "lm_head"]
BOTH = [*EMBEDDING, "lm_head"]
CASES: dict[str, tuple[bool, int | None, dict[str, Any], dict[str, Any]]] = {
    "more rows": (False, 520, {}, {"rows": 520}),
    "fewer rows": (False, 504, {}, {"rows": 504}),
    "more rows, tied": (True, 520, {}, {"rows": 520}),
    "copies apart": (
        True,
        None,
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"own_head": True},
    ),
    "an embedding apart": (True, None, {"modules_to_save": ["embed_tokens"]}, {"own_head": True}),
    "a head apart": (True, None, {"modules_to_save": ["lm_head"]}, {"own_head": True}),
    "copies kept one": (
        True,
        None,
        {"modules_to_save": ["embed_tokens", "lm_head"], "ensure_weight_tying": True},
        {},
    ),
    "copies of two tensors": (False, None, {"modules_to_save": ["embed_tokens", "lm_head"]}, {}),
    "more rows and DoRA": (False, 520, {"use_dora": True}, {"rows": 520}),
    "more rows and a method that ties nothing": (
        True,
        520,
        {"ia3": True},
        {"rows": 520, "own_head": True},
    ),
    "more rows, of which some are trained": (
        False,
        520,
        {"trainable_token_indices": [3, 512, 515]},
        {"rows": 520},
    ),
    "more rows, of which some are trained, tied": (
        True,
        520,
        {"trainable_token_indices": [3, 512, 515]},
        {"rows": 520},
    ),
    "an embedding adapted": (False, None, {"target_modules": EMBEDDING}, {}),
    "a head adapted": (False, None, {"target_modules": HEAD}, {}),
    "an embedding adapted apart": (True, None, {"target_modules": EMBEDDING}, {"own_head": True}),
    "a head adapted apart": (True, None, {"target_modules": HEAD}, {"own_head": True}),
    "both adapted apart": (True, None, {"target_modules": BOTH}, {"own_head": True}),
    "both adapted as one": (
        True,
        None,
        {"target_modules": EMBEDDING, "ensure_weight_tying": True},
        {},
    ),
    "an embedding adapted by DoRA, its rank its own": (
        True,
        None,
        {"target_modules": EMBEDDING, "use_dora": True, "rank_pattern": {"embed_tokens": 3}},
        {"own_head": True},
    ),
    "more rows and both adapted": (False, 520, {"target_modules": BOTH}, {"rows": 520}),
    "more rows and an embedding adapted apart": (
        True,
        520,
        {"target_modules": EMBEDDING},
        {"rows": 520, "own_head": True},
    ),
    "an embedding adapted and a head apart": (
        True,
        None,
        {"target_modules": EMBEDDING, "modules_to_save": ["lm_head"]},
        {"own_head": True},
    ),
    "more rows and copies apart": (
        True,
        520,
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"rows": 520, "own_head": True},
    ),
}


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3"])
@pytest.mark.parametrize("case", CASES)
def test_the_merge_is_what_peft_computes_on_the_base_as_it_was(
    tiny_model: ModelMaker, tmp_path: Path, case: str, family: str
) -> None:
    tied, rows, lora, needed = CASES[case]
    if family != "llama" and rows == 504:
        pytest.skip("the same code for every family; rows are cut for one")
    if family == "phi3" and "ia3" in lora:
        pytest.skip("IA3 is not for fused projections")
    if family == "phi3":
        modules = lora.get("target_modules", ["qkv_proj", "down_proj"])
        named = ["qkv_proj" if module == "q_proj" else module for module in modules]
        lora = {**lora, "target_modules": named}
    model = tiny_model(family, tied=tied)
    adapter = write_adapter(model, tmp_path / "adapter", rows=rows, **lora)
    base = run_stage(base_stage.run, tmp_path / "base", needed, {"model": model})
    inputs = {"base": base, "adapter": adapter}
    merged = run_stage(merge_stage.run, tmp_path / "merge", MERGE, inputs)
    wanted = by_peft(model, adapter, rows)
    assert wanted.abs().max() > 0.5
    torch.testing.assert_close(logits_of(merged), wanted, atol=2e-5, rtol=0)
    config = json.loads((merged / "config.json").read_text())
    assert config["vocab_size"] == (rows or 512)
    assert load(merged).config.tie_word_embeddings == (tied and not needed.get("own_head", False))
    # The reference is the unmerged adapter on that base, by PEFT.
    job = make_job(tmp_path / "reference", MERGE, inputs)
    with torch.no_grad():
        reference = adapted(job, load(base_stage.checkpoint_folder(base)).eval())(IDS).logits[0]
    torch.testing.assert_close(reference, wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("family", ["qwen2", "llama"])
@pytest.mark.parametrize("trained", ["all", "lora_only"])
def test_biases_that_were_trained_are_the_adapters(
    tiny_model: ModelMaker, tmp_path: Path, family: str, trained: str
) -> None:
    model = tiny_model(family)
    adapter = write_adapter(
        model, tmp_path / "adapter", bias=trained, target_modules=["q_proj", "o_proj"]
    )
    base = run_stage(base_stage.run, tmp_path / "base", {}, {"model": model})
    inputs = {"base": base, "adapter": adapter}
    merged = run_stage(merge_stage.run, tmp_path / "merge", MERGE, inputs)
    wanted = by_peft(model, adapter)
    torch.testing.assert_close(logits_of(merged), wanted, atol=2e-5, rtol=0)
    job = make_job(tmp_path / "reference", MERGE, inputs)
    with torch.no_grad():
        reference = adapted(job, load(base_stage.checkpoint_folder(base)).eval())(IDS).logits[0]
    torch.testing.assert_close(reference, wanted, atol=2e-5, rtol=0)
    source, own = SafetensorsSource.from_folder(merged), SafetensorsSource.from_folder(model)
    changed = {
        name.rpartition(".self_attn.")[2]
        for name in own.specs
        if name.endswith(".bias") and not torch.equal(own.load(name), source.load(name))
    }
    every = {"q_proj.bias", "k_proj.bias", "v_proj.bias"} if trained == "all" else {"q_proj.bias"}
    assert changed == (every if family == "qwen2" else set())


def test_the_base_itself_answers_as_it_did(tiny_model: ModelMaker, tmp_path: Path) -> None:
    """A base with more rows and a head of its own is the same base: the bare base is measured, too."""
    model = tiny_model("llama", tied=True)
    needed = {"rows": 520, "own_head": True}
    base = run_stage(base_stage.run, tmp_path / "base", needed, {"model": model})
    torch.testing.assert_close(logits_of(base)[:, :512], logits_of(model), atol=1e-6, rtol=0)
    stored = SafetensorsSource.from_folder(base)
    assert stored.specs["lm_head.weight"].shape == (520, 64)
    assert torch.equal(stored.load("lm_head.weight"), stored.load("model.embed_tokens.weight"))


def test_a_gguf_base_grows_and_is_untied_too(tiny_model: ModelMaker, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    model = write_tiny_gguf(tiny_model("llama"), tmp_path / "m.gguf")
    plain = run_stage(base_stage.run, tmp_path / "plain", {}, {"model": model})
    needed = {"rows": 520, "own_head": True}
    base = run_stage(base_stage.run, tmp_path / "base", needed, {"model": model})
    torch.testing.assert_close(logits_of(base)[:, :512], logits_of(plain), atol=1e-6, rtol=0)
    lora = {"modules_to_save": ["embed_tokens", "lm_head"]}
    adapter = write_adapter(plain, tmp_path / "adapter", rows=520, **lora)
    inputs = {"base": base, "adapter": adapter}
    merged = run_stage(merge_stage.run, tmp_path / "merge", MERGE, inputs)
    torch.testing.assert_close(logits_of(merged), by_peft(plain, adapter, 520), atol=2e-5, rtol=0)


@pytest.fixture
def project(tiny_model: ModelMaker, tmp_path: Path) -> Project:
    made = write_project(tiny_model("llama", tied=True), tmp_path)
    made.recipe["adapter"] = "adapter"
    made.recipe["data"].pop("train")
    made.recipe["merge"] = {"grid": "none"}
    return made


@pytest.mark.parametrize("case", [name for name, (tied, *_) in CASES.items() if tied])
def test_a_plan_finds_what_the_base_needs(project: Project, case: str) -> None:
    _, rows, lora, needed = CASES[case]
    write_adapter(project.folder / "model", project.folder / "adapter", rows=rows, **lora)
    plan = project.plan()
    assert plan.stage("base").settings == BaseSettings(**needed)
    assert plan.resolved.model.vocab_size == (rows or 512)
    assert plan.resolved.model.tied_embeddings == (not needed.get("own_head", False))
    said = [note for note in plan.notes if "brings a whole" in note or "adapter adapts" in note]
    assert bool(said) == bool(lora or rows)
    assert all(("two tensors" in note) == bool(needed.get("own_head")) for note in said)


def test_an_adapters_tokenizer_is_part_of_the_base(project: Project) -> None:
    adapter = write_adapter(project.folder / "model", project.folder / "adapter", rows=520)
    before = project.keys()
    build_tokenizer(bos=True, extra=("<a>", "<b>")).save_pretrained(str(adapter))
    plan = project.plan()
    assert plan.stage("base").files["tokenizer"][0] == adapter
    assert any("2 tokens more ('<a>', '<b>')" in note for note in plan.notes)
    keys = {stage.name: stage.key for stage in plan.stages}
    assert keys["base"] != before["base"]
    (adapter / "trainer_state.json").write_text("{}")
    assert project.keys()["base"] == keys["base"]


def test_the_bases_tokenizer_again_changes_nothing(project: Project) -> None:
    adapter = write_adapter(project.folder / "model", project.folder / "adapter")
    build_tokenizer(bos=True).save_pretrained(str(adapter))
    plan = project.plan()
    assert "tokenizer" not in plan.stage("base").files
    assert not [note for note in plan.notes if "tokenizer" in note or "template" in note]


@pytest.mark.parametrize(
    ("rename", "said"),
    [
        (lambda name: f"module.{name}", "model: module.* has a wrapper's prefix, and is renamed"),
        (
            lambda name: f"language_model.{name}",
            "has the prefix that it has inside a larger model, and is renamed",
        ),
    ],
)
def test_a_checkpoint_of_other_names_is_told_of(
    project: Project, rename: Callable[[str], str], said: str
) -> None:
    model = project.folder / "model"
    write_adapter(model, project.folder / "adapter")
    assert not [note for note in project.plan().notes if "renamed" in note]
    if model.is_symlink():
        shutil.copytree(model, project.folder / "own")
        model.unlink()
        (project.folder / "own").rename(model)
    weights = model / "model.safetensors"
    save_file({rename(name): value for name, value in load_file(weights).items()}, weights)
    assert [note for note in project.plan().notes if re.search(said, note)]


def too_many_tokens(project: Project, adapter: Path) -> None:
    extra = tuple(f"<{number}>" for number in range(300))
    build_tokenizer(bos=True, extra=extra).save_pretrained(str(adapter))


def of_a_wider_model(project: Project, adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    wider = {k: torch.zeros(4, 96) if "q_proj.lora_A" in k else v for k, v in tensors.items()}
    save_file(wider, path)


def of_a_deeper_model(project: Project, adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    more = {k.replace("layers.1", "layers.9"): v.clone() for k, v in load_file(path).items()}
    save_file(more, path)


BIAS = "base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda tensors: tensors.pop(BIAS), r"lacks \S+q_proj.base_layer.bias .* bias: lora_only"),
        (
            lambda tensors: tensors.update({BIAS: torch.zeros(32)}),
            r"q_proj.base_layer.bias is \(32,\), and the base's .* is \(64,\)",
        ),
        (
            lambda tensors: tensors.update({BIAS.replace("q_proj", "o_proj"): torch.zeros(64)}),
            r"holds \S+o_proj.base_layer.bias, and the base stores no model\S+o_proj.bias",
        ),
    ],
)
def test_biases_that_are_not_the_bases_are_named(
    tiny_model: ModelMaker, tmp_path: Path, change: Callable[[dict[str, Any]], None], match: str
) -> None:
    model = tiny_model("qwen2")
    adapter = write_adapter(
        model, tmp_path / "adapter", bias="lora_only", target_modules=["q_proj", "o_proj"]
    )
    tensors = load_file(adapter / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, adapter / "adapter_model.safetensors")
    base = run_stage(base_stage.run, tmp_path / "base", {}, {"model": model})
    with pytest.raises(InputError, match=match):
        run_stage(merge_stage.run, tmp_path / "merge", MERGE, {"base": base, "adapter": adapter})


def test_factors_of_a_tied_model_are_one_or_refused(tiny_model: ModelMaker, tmp_path: Path) -> None:
    model = tiny_model("llama", tied=True)
    adapter = write_adapter(
        model, tmp_path / "adapter", target_modules=EMBEDDING, ensure_weight_tying=True
    )
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors["base_model.model.lm_head.lora_A.weight"] += 0.1
    save_file(tensors, adapter / "adapter_model.safetensors")
    base = run_stage(base_stage.run, tmp_path / "base", {}, {"model": model})
    with pytest.raises(InputError, match="factors of the head are not those of the embedding"):
        run_stage(merge_stage.run, tmp_path / "merge", MERGE, {"base": base, "adapter": adapter})


def test_a_base_of_one_tensor_is_not_changed_by_halves(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    model = tiny_model("llama", tied=True)
    adapter = write_adapter(model, tmp_path / "adapter", target_modules=HEAD)
    base = run_stage(base_stage.run, tmp_path / "base", {}, {"model": model})
    with pytest.raises(InputError, match=r"changes the head by itself, .* are one tensor"):
        run_stage(merge_stage.run, tmp_path / "merge", MERGE, {"base": base, "adapter": adapter})


def without_its_bias(project: Project, adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    factor = next(key for key in load_file(path) if "q_proj.lora_B" in key)
    save_file({**load_file(path), factor.replace("weight", "bias"): torch.zeros(64)}, path)


def of_another_vocabulary(project: Project, adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    write_adapter(project.folder / "model", adapter, target_modules=EMBEDDING)
    kept = {k: v for k, v in load_file(path).items() if "base_layer" not in k}
    save_file(
        {k: v[:, :500].contiguous() if "embedding_A" in k else v for k, v in kept.items()}, path
    )


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (without_its_bias, r"q_proj.lora_B.bias, .* no \S+q_proj.bias; lora_bias can't be merged"),
        (of_another_vocabulary, r"factors of model.embed_tokens are for a weight of \(64, 500\)"),
        (too_many_tokens, r"its tokenizer has the token '<\d+>' with id 512, .* 512 rows"),
        (of_a_wider_model, r"are for a weight of \(64, 96\), and the model's is \(64, 64\)"),
        (of_a_deeper_model, r"and the model has no model\.layers\.9\.\S+; it is another"),
    ],
)
def test_what_cannot_go_together_is_told_by_the_plan(
    project: Project, spoil: Callable[[Project, Path], None], match: str
) -> None:
    spoil(project, write_adapter(project.folder / "model", project.folder / "adapter"))
    with pytest.raises(InputError, match=match):
        project.plan()


def test_adapters_of_one_bundle_share_its_embedding(project: Project) -> None:
    write_adapter(project.folder / "model", project.folder / "adapter")
    write_adapter(project.folder / "model", project.folder / "other", rows=520)
    project.recipe["targets"] = [{"name": "cpu-fp32", "adapters": "hot-swap"}]
    project.recipe["adapters"] = [{"name": "other", "path": "other"}]
    with pytest.raises(InputError, match=r"other: changes embedding, head or biases"):
        project.plan()


def test_a_trainers_output_folder_means_its_newest_checkpoint(project: Project) -> None:
    made = write_adapter(project.folder / "model", project.folder / "made")
    for step in (20, 100):
        shutil.copytree(made, project.folder / "adapter" / f"checkpoint-{step}")
    plan = project.plan()
    adapter = plan.resolved.adapter
    assert adapter is not None
    assert adapter.path == project.folder / "adapter" / "checkpoint-100"
    assert plan.stage("reference").files["adapter"][0] == adapter.path
    assert (
        "adapter holds checkpoints of an adapter; checkpoint-100, the newest, is taken"
        in plan.notes
    )
