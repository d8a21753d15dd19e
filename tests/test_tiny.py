"""The tiny models are what they claim: other tests build on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgepeft.data.formats import read_rows
from edgepeft.data.prompt import Prompter
from tests.tiny import FAMILIES, TIED, VOCAB_SIZE, write_tiny_data, write_tiny_model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")


@pytest.mark.parametrize("family", FAMILIES)
def test_loads_as_its_own_class_and_says_something(tmp_path: Path, family: str) -> None:
    folder = write_tiny_model(tmp_path / family, family)
    config = json.loads((folder / "config.json").read_text())
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert config["architectures"] == [type(model).__name__]
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert config["intermediate_size"] != config["vocab_size"] == VOCAB_SIZE
    ids = torch.tensor([Prompter.from_folder(folder).prompt([{"role": "user", "content": "Hi"}])])
    with torch.no_grad():
        logits = model(ids).logits[0]
    assert logits.shape == (ids.shape[1], VOCAB_SIZE)
    # Not flat, and not the same answer at every position.
    assert logits.std(-1).min() > 0.3
    assert len(set(logits.argmax(-1).tolist())) > 2


def test_families_have_what_sets_them_apart(tmp_path: Path) -> None:
    stored = {
        family: safetensors.load_file(
            write_tiny_model(tmp_path / family, family) / "model.safetensors"
        )
        for family in FAMILIES
    }
    tied = {family for family in FAMILIES if "lm_head.weight" not in stored[family]}
    assert tied == set(TIED)
    for part in ("q", "k", "v"):
        assert stored["qwen2"][f"model.layers.0.self_attn.{part}_proj.bias"].abs().min() > 0
    assert "model.layers.1.self_attn.q_norm.weight" in stored["qwen3"]
    assert stored["qwen3"]["model.layers.0.self_attn.q_proj.weight"].shape == (128, 64)
    config = json.loads((tmp_path / "gemma3" / "config.json").read_text())
    assert config["layer_types"].count("full_attention") == 1 < len(config["layer_types"])


def test_same_seed_same_bytes_other_seed_other_weights(tmp_path: Path) -> None:
    a, b, c = (
        (write_tiny_model(tmp_path / name, "qwen3", seed=seed) / "model.safetensors").read_bytes()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert a == b != c


def test_shards_dtype_and_tying(tmp_path: Path) -> None:
    whole = write_tiny_model(tmp_path / "one", "llama", dtype="bfloat16", tied=False)
    split = write_tiny_model(tmp_path / "two", "llama", dtype="bfloat16", tied=False, shards=2)
    index = json.loads((split / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) == 2
    joined = {k: v for name in files for k, v in safetensors.load_file(split / name).items()}
    single = safetensors.load_file(whole / "model.safetensors")
    assert joined.keys() == single.keys()
    assert "lm_head.weight" in joined
    assert all(torch.equal(joined[k], single[k]) for k in joined)
    assert {tensor.dtype for tensor in joined.values()} == {torch.bfloat16}


def test_unknown_family_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="qwen3"):
        write_tiny_model(tmp_path, "rwkv")


def test_data_is_a_function_of_its_prompt_and_the_split_is_clean(tmp_path: Path) -> None:
    train, test = (read_rows(path) for path in write_tiny_data(tmp_path, rows=32))
    assert (len(train), len(test)) == (32, 8)
    prompts = [{row.prompt_messages[0]["content"] for row in rows} for rows in (train, test)]
    assert not prompts[0] & prompts[1]
    answers: dict[str, str] = {}
    for row in (*train, *test):
        thing = row.prompt_messages[0]["content"].split(" (")[0]
        assert answers.setdefault(thing, row.completion) == row.completion
    assert len(set(answers.values())) == 8
