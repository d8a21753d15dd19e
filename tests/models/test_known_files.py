"""The table of files against lists that published folders have: nothing in them is unknown or used by mistake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgepeft.errors import InputError
from edgepeft.models.known_files import (
    ADAPTER_FILES,
    MODEL_FILES,
    Known,
    file_notes,
    verdict_of,
)

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
MODELS = {
    "decoder in one file": (
        *(".gitattributes", "LICENSE", "README.md", "config.json", "generation_config.json"),
        *("model.safetensors", "merges.txt", "vocab.json", *TOKENIZER),
    ),
    "decoder in shards, with Meta's own files": (
        *("LICENSE.txt", "USE_POLICY.md", "README.md", "config.json", "generation_config.json"),
        *("model-00001-of-00004.safetensors", "model.safetensors.index.json", "original/"),
        *TOKENIZER,
    ),
    "decoder with Mistral's own files": (
        *("README.md", "config.json", "consolidated.safetensors", "params.json", "tekken.json"),
        *("model-00001-of-00003.safetensors", "model.safetensors.index.json", *TOKENIZER),
        *("tokenizer.model.v3", "generation_config.json"),
    ),
    "decoder of an old kind": (
        *("pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "tf_model.h5", "config.json"),
        *("pytorch_model.bin.index.json", "flax_model.msgpack", "rust_model.ot", "64.tflite"),
        *("model.safetensors", "tokenizer.model", "added_tokens.json", *TOKENIZER),
        *("64-fp16.tflite", "flax_model.msgpack.index.json", "generation_config.json"),
    ),
    "encoder": (
        *("README.md", "config.json", "coreml/", "flax_model.msgpack", "model.safetensors"),
        *("model.onnx", "onnx/", "openvino/", "pytorch_model.bin", "tf_model.h5", "vocab.txt"),
        *("tokenizer.json", "tokenizer_config.json"),
    ),
    "sentence-transformers": (
        *("1_Pooling/", "2_Dense/", "3_Normalize/", "README.md", "config.json", "modules.json"),
        *("config_sentence_transformers.json", "data_config.json", "model.safetensors"),
        *("sentence_bert_config.json", "train_script.py", "vocab.txt", "onnx/", *TOKENIZER),
    ),
    "sentencepiece": (
        *("config.json", "model.safetensors", "spiece.model", "sentencepiece.bpe.model"),
        *("sentence_xlm-roberta_config.json", *TOKENIZER),
    ),
    "trainer's output": (
        *("config.json", "model.safetensors", "training_args.bin", "trainer_state.json"),
        *("optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_0.pth", "scaler.pt"),
        *("checkpoint-500/", "runs/", "all_results.json", "train_results.json", "latest"),
        *("eval_results.json", "global_step500/", "zero_to_fp32.py", "chat_template.jinja"),
    ),
}
ADAPTERS = {
    "plain": ("README.md", "adapter_config.json", "adapter_model.safetensors", ".gitattributes"),
    "with its tokenizer": (
        *("README.md", "adapter_config.json", "adapter_model.safetensors", "added_tokens.json"),
        *("chat_template.jinja", "merges.txt", "vocab.json", "tokenizer.model", *TOKENIZER),
    ),
    "trainer's checkpoint": (
        *("README.md", "adapter_config.json", "adapter_model.safetensors", "optimizer.pt"),
        *("scheduler.pt", "rng_state.pth", "trainer_state.json", "training_args.bin"),
        *("checkpoint-100/", "runs/", "special_tokens_map.json"),
    ),
    "of a framework": (
        *("README.md", "adapter_config.json", "adapter_model.safetensors", "all_results.json"),
        *("trainer_log.jsonl", "training_loss.png", "training_args.yaml", "train_results.json"),
        *("adapter_model.bin", "config.json"),
    ),
    "edgepeft's own": (
        *("adapter_config.json", "adapter_model.safetensors", "edgepeft_training.json"),
        "edgepeft_initial.safetensors",
    ),
}
UNKNOWN = {"data_config.json", "tokenizer.model.v3"}
"""Files that some folders have and that say nothing to any program we know of: they are named as not used."""


def cases() -> list[tuple[tuple[Known, ...], str]]:
    found = {name for names in MODELS.values() for name in names}
    ours = {name for names in ADAPTERS.values() for name in names}
    return [(MODEL_FILES, one) for one in sorted(found)] + [
        (ADAPTER_FILES, one) for one in sorted(ours)
    ]


@pytest.mark.parametrize(("table", "name"), cases())
def test_files_of_published_folders_are_known(table: tuple[Known, ...], name: str) -> None:
    assert (verdict_of(name, table) is None) == (name in UNKNOWN)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("config.json", "used"),
        ("tokenizer.json", "used"),
        ("model.safetensors", "used"),
        ("2_Dense/", "used"),
        ("optimizer.pt", "nothing"),
        ("pytorch_model.bin", "nothing"),
        ("modeling_phi3.py", "told"),
        ("preprocessor_config.json", "told"),
        ("adapter_model.safetensors", "told"),
    ],
)
def test_what_becomes_of_a_models_file(name: str, verdict: str) -> None:
    found = verdict_of(name, MODEL_FILES)
    assert found is not None
    assert found.verdict == verdict
    assert bool(found.why) == (verdict == "told")


def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "who_knows")
    assert file_notes(tmp_path, MODEL_FILES)[0].endswith("who_knows: not known here, and not used")
    os.mkfifo(tmp_path / "tokenizer_config.json")
    with pytest.raises(InputError, match=r"tokenizer_config\.json: is a (pipe|device), not a file"):
        file_notes(tmp_path, MODEL_FILES)
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "merges.txt").symlink_to("gone")
    with pytest.raises(InputError, match=r"merges\.txt: is a link to nothing"):
        file_notes(tmp_path, ADAPTER_FILES)


def test_what_is_told_of_a_folder(tmp_path: Path) -> None:
    for name in ("config.json", "README.md", "modeling_x.py", "who_knows.bin", "more.dat"):
        (tmp_path / name).write_text("")
    (tmp_path / "odd").mkdir()
    code, unknown = file_notes(tmp_path, MODEL_FILES)
    assert "modeling_x.py is code, which is never run" in code
    assert unknown.endswith("more.dat, odd/, who_knows.bin: not known here, and not used")
