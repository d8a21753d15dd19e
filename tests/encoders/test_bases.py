"""Encoders as they come from elsewhere: old names, other heads, no pooler, settings of sentence-transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from edgepeft.checkpoints import encoder_base
from edgepeft.checkpoints.base import open_base
from edgepeft.checkpoints.base_stage import BaseSettings, EncoderFacts
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.skeleton import build_skeleton
from edgepeft.errors import InputError
from edgepeft.merging.stage import merged_source
from edgepeft.models.tasks import CLASSIFICATION, EMBEDDING
from tests.stages import job_of, make_job, run_stage
from tests.tiny_encoders import LABELS, write_tiny_encoder

Tensors = dict[str, torch.Tensor]
IDS = torch.arange(4, 40)[None]
MERGE = {"merge": {"base": "dequantized", "grid": "none"}}


def stage(model: Path, out: Path, task: str = CLASSIFICATION, **settings: Any) -> Path:
    labels = list(LABELS) if task == CLASSIFICATION else []
    inputs = {"model": model, **{k: settings.pop(k) for k in ("sentence",) if k in settings}}
    return run_stage(encoder_base.run, out, {"task": task, "labels": labels, **settings}, inputs)


def changed(
    model: Path, folder: Path, edit: Callable[[Tensors], Any] = lambda t: None, **config: Any
) -> Path:
    shutil.copytree(model, folder)
    tensors = load_file(folder / "model.safetensors")
    found = edit(tensors)
    tensors = found if isinstance(found, dict) else tensors
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def write_adapter(model: Any, folder: Path, **lora: Any) -> Path:
    options = {"r": 4, "target_modules": ["query", "value"], "task_type": "SEQ_CLS", **lora}
    wrapped = get_peft_model(model, LoraConfig(**options))
    generator = torch.Generator().manual_seed(3)
    for _, parameter in sorted(wrapped.named_parameters()):
        if parameter.requires_grad:
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.1
    wrapped.save_pretrained(str(folder))
    return folder


def classifier(model: Path) -> Any:
    torch.manual_seed(11)
    return transformers.AutoModelForSequenceClassification.from_pretrained(
        model, num_labels=len(LABELS)
    ).eval()


def old(tensors: Tensors) -> Tensors:
    """Names of BERT's own time."""
    names = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
    found = {}
    for name, tensor in tensors.items():
        for new, was in names:
            name = name.replace(new, was)
        found[name] = tensor
    return found


@pytest.mark.parametrize(
    "edit",
    [old, lambda t: {f"module.{k}": v for k, v in t.items()}],
    ids=["old names", "a wrapper's names"],
)
def test_names_that_transformers_or_a_wrapper_changed(
    tmp_path: Path, edit: Callable[[Tensors], Tensors]
) -> None:
    plain = write_tiny_encoder(tmp_path / "plain", "bert")
    model = changed(plain, tmp_path / "model", edit)
    base = open_base(stage(model, tmp_path / "base"))
    wanted = open_base(stage(plain, tmp_path / "wanted"))
    assert set(base.specs) == set(wanted.specs)
    for name in wanted.specs:
        assert torch.equal(base.load(name), wanted.load(name))
    assert not [name for name in base.specs if "gamma" in name or "beta" in name]


def test_an_adapter_finds_its_local_base_though_a_head_was_made_for_it(tmp_path: Path) -> None:
    """What PEFT names is the folder as it was given; a base with a fresh head is not another one."""
    model = write_tiny_encoder(tmp_path / "model", "bert", head="PreTraining")
    adapter = write_adapter(classifier(model), tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(model)
    base = stage(model, tmp_path / "base")
    source = merged_source(make_job(tmp_path, MERGE, {"base": base, "adapter": adapter}))
    merged = build_skeleton(base)
    merged.load_state_dict({name: source.load(name) for name in source.specs}, assign=True)
    with torch.no_grad():
        wanted = PeftModel.from_pretrained(classifier(model), str(adapter)).eval()(IDS).logits
        torch.testing.assert_close(merged(IDS).logits, wanted, atol=1e-5, rtol=0)
    other = write_tiny_encoder(tmp_path / "other", "bert", head="PreTraining", seed=1)
    inputs = {"base": stage(other, tmp_path / "of-another"), "adapter": adapter}
    with pytest.raises(InputError, match="whose weights are not these"):
        merged_source(make_job(tmp_path, MERGE, inputs))


def test_a_pooler_that_nobody_brings_is_named(tmp_path: Path) -> None:
    """Made at random for the task, it would stand in for the one that the adapter was trained with."""
    model = write_tiny_encoder(tmp_path / "model", "bert")
    base = stage(model, tmp_path / "base")
    assert EncoderFacts.read(base).new_modules == ("classifier", "pooler")
    adapter = write_adapter(classifier(model), tmp_path / "adapter")
    job = make_job(tmp_path, MERGE, {"base": base, "adapter": adapter})
    with pytest.raises(InputError, match=r"the base has no pooler, so one was made at random"):
        merged_source(job)
    whole = write_adapter(classifier(model), tmp_path / "whole", modules_to_save=["pooler"])
    merged_source(make_job(tmp_path, MERGE, {"base": base, "adapter": whole}))


def test_another_tasks_head_is_left_out_with_a_word_and_layers_never(tmp_path: Path) -> None:
    model = write_tiny_encoder(tmp_path / "model", "bert")
    said: list[str] = []
    (tmp_path / "out").mkdir()
    settings = {"task": CLASSIFICATION, "labels": list(LABELS)}
    job = job_of(
        BaseSettings,
        tmp_path / "out",
        settings,
        {"model": model},
        lambda e: said.append(str(e.get("text"))),
    )
    encoder_base.run(job)
    assert any("left out what belongs to another task's head (cls." in text for text in said)
    deeper = changed(model, tmp_path / "deeper", num_hidden_layers=1)
    with pytest.raises(InputError, match=r"holds bert\.encoder\.layer\.1\.\S+, .* 1 layers"):
        stage(deeper, tmp_path / "base")
    odd = changed(
        model,
        tmp_path / "odd",
        lambda t: t.update({"bert.encoder.layer.0.extra.weight": torch.ones(2)}),
    )
    with pytest.raises(InputError, match=r"holds bert\.encoder\.layer\.0\.extra\.weight, which"):
        stage(odd, tmp_path / "base-of-odd")


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    plain = write_tiny_encoder(tmp_path / "plain", "bert")
    name = "bert.encoder.layer.0.attention.self.query.weight"
    model = changed(plain, tmp_path / "model", lambda t: t.update({name: t[name] * torch.nan}))
    with pytest.raises(InputError, match=r"query\.weight holds NaN or infinite values"):
        stage(model, tmp_path / "base")


def test_a_resized_vocabulary_of_an_encoder(tmp_path: Path) -> None:
    model = write_tiny_encoder(tmp_path / "model", "bert", head="PreTraining")
    resized = classifier(model)
    resized.resize_token_embeddings(520, mean_resizing=False)
    adapter = write_adapter(resized, tmp_path / "adapter")
    base = stage(model, tmp_path / "base", rows=520)
    source = merged_source(make_job(tmp_path, MERGE, {"base": base, "adapter": adapter}))
    embedding = "bert.embeddings.word_embeddings.weight"
    stored = load_file(adapter / "adapter_model.safetensors")
    assert torch.equal(source.load(embedding), stored[f"base_model.model.{embedding}"])
    assert SafetensorsSource.from_folder(base).specs[embedding].shape == (520, 64)


def settings_of(folder: Path, **said: Any) -> None:
    (folder / "sentence_bert_config.json").write_text(json.dumps(said))


def test_the_longest_text_is_sentence_transformers(tmp_path: Path) -> None:
    model = write_tiny_encoder(tmp_path / "model", "minilm")
    assert EncoderFacts.read(stage(model, tmp_path / "plain", EMBEDDING)).context_length == 128
    settings_of(model, max_seq_length=48, do_lower_case=False)
    assert EncoderFacts.read(stage(model, tmp_path / "short", EMBEDDING)).context_length == 48
    settings_of(model, max_seq_length=4096)
    assert EncoderFacts.read(stage(model, tmp_path / "long", EMBEDDING)).context_length == 128
    # The task decides whether texts are pooled at all.
    settings_of(model, max_seq_length=48)
    assert EncoderFacts.read(stage(model, tmp_path / "labels")).context_length == 128


def test_lower_case_that_the_tokenizer_does_not_make(tmp_path: Path) -> None:
    model = write_tiny_encoder(tmp_path / "model", "minilm")
    settings_of(model, do_lower_case=True)
    stage(model, tmp_path / "base", EMBEDDING)
    keeps = write_tiny_encoder(tmp_path / "keeps", "roberta")
    for name in ("modules.json", "1_Pooling"):
        place = shutil.copytree if (model / name).is_dir() else shutil.copyfile
        place(model / name, keeps / name)
    settings_of(keeps, do_lower_case=True)
    with pytest.raises(InputError, match="do_lower_case: sentence-transformers lowers the case"):
        stage(keeps, tmp_path / "refused", EMBEDDING)


def test_an_adapters_own_pooling_goes_before_the_bases(tmp_path: Path) -> None:
    model = write_tiny_encoder(tmp_path / "model", "minilm")
    own = tmp_path / "adapter"
    (own / "1_Pooling").mkdir(parents=True)
    shutil.copyfile(model / "modules.json", own / "modules.json")
    (own / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    pooling = EncoderFacts.read(stage(model, tmp_path / "base", EMBEDDING, sentence=own)).pooling
    assert pooling is not None
    assert pooling.mode == "cls"
