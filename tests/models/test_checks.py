"""What a model's headers contradict is told by a plan: layers, rows, types, head sizes, heads of other kinds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from edgepeft.errors import InputError
from edgepeft.models import inspect_model
from edgepeft.models.checks import HEAD_MULTIPLE, check_head_size, check_headers, check_label_head
from edgepeft.models.tasks import CLASSIFICATION, TAGGING
from tests.conftest import ModelMaker
from tests.tiny import FAMILIES
from tests.tiny_encoders import write_tiny_encoder
from tests.tiny_gguf import write_tiny_gguf

Tensors = dict[str, torch.Tensor]
LAYER = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def model(tiny_model: ModelMaker, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model("llama"), tmp_path / "model"))


def configured(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def stored(edit: Callable[[Tensors], Any]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        edit(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    return change


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (configured(num_hidden_layers=1), r"holds model\.layers\.1\.\S+, which .* \(9 such"),
        (configured(num_hidden_layers=3), "lacks the tensors of layer 2, and .* counts 3 layers"),
        (configured(num_hidden_layers=10**6), "lacks the tensors of layer 2"),
        (
            stored(lambda t: [t.pop(k) for k in list(t) if ".layers.0." in k]),
            "lacks the tensors of layer 0",
        ),
        (configured(vocab_size=500), r"embed_tokens.weight is \(512, 64\), .* for \(500, 64\)"),
        (configured(hidden_size=128), r"embed_tokens.weight is \(512, 64\), .* for \(512, 128\)"),
        (
            stored(lambda t: t.update({LAYER: torch.zeros(64, 64, dtype=torch.int8)})),
            rf"{LAYER} is I8, and a weight is floating",
        ),
        (
            stored(lambda t: t.update({LAYER: torch.zeros(64, 64).to(torch.float8_e4m3fn)})),
            rf"{LAYER} is F8_E4M3, and a weight is floating",
        ),
        (
            stored(lambda t: t.update({LAYER: torch.zeros(0, 64)})),
            rf"{LAYER} is \(0, 64\), which holds nothing",
        ),
    ],
)
def test_tensors_that_the_configuration_does_not_describe(
    model: Path, spoil: Callable[[Path], None], match: str
) -> None:
    spoil(model)
    with pytest.raises(InputError, match=match):
        check_headers(inspect_model(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_models_pass(tiny_model: ModelMaker, family: str) -> None:
    info = inspect_model(tiny_model(family))
    info.require_sizes()
    check_headers(info)
    check_head_size(info)


def test_layers_that_predict_further_tokens_are_no_surplus(model: Path) -> None:
    def add(tensors: Tensors) -> None:
        tensors["model.layers.2.eh_proj.weight"] = torch.zeros(4, 4)

    stored(add)(model)
    with pytest.raises(InputError, match=r"holds model\.layers\.2\."):
        check_headers(inspect_model(model))
    configured(num_nextn_predict_layers=1)(model)
    check_headers(inspect_model(model))


def test_blocks_of_a_gguf_are_counted(tiny_model: ModelMaker, tmp_path: Path) -> None:
    info = inspect_model(write_tiny_gguf(tiny_model("llama"), tmp_path / "m.gguf"))
    check_headers(info)
    with pytest.raises(InputError, match=r"holds blk\.1\.\S+, which a model of 1 layers"):
        check_headers(replace(info, layers=1))
    fewer = {name: one for name, one in info.tensors.items() if not name.startswith("blk.0.")}
    with pytest.raises(InputError, match="lacks the tensors of layer 0"):
        check_headers(replace(info, tensors=fewer))


@pytest.mark.parametrize(("size", "taken"), [(16, True), (48, True), (20, False), (24, False)])
def test_head_sizes_that_the_attention_operator_takes(model: Path, size: int, taken: bool) -> None:
    assert HEAD_MULTIPLE == 16
    configured(head_dim=size)(model)
    info = inspect_model(model)
    assert info.head_size == size
    if taken:
        check_head_size(info)
        return
    with pytest.raises(InputError, match=rf"attention head size is {size}, and .* multiples of 16"):
        check_head_size(info)


def test_a_head_size_that_is_not_said_follows_from_width_and_heads(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model("qwen2"), tmp_path / "model"))
    configured(num_attention_heads=8)(folder)
    with pytest.raises(InputError, match="attention head size is 8"):
        check_head_size(inspect_model(folder))


def test_a_head_that_gives_several_numbers_is_named(tmp_path: Path) -> None:
    folder = write_tiny_encoder(
        tmp_path / "model", "bert", head="SequenceClassification", labels=("a", "b", "c")
    )
    check_label_head(inspect_model(folder), CLASSIFICATION)
    configured(problem_type="regression")(folder)
    with pytest.raises(InputError, match=r"its head gives 3 numbers, and only one \(a score\)"):
        check_label_head(inspect_model(folder), CLASSIFICATION)
    check_label_head(inspect_model(folder), TAGGING)


def two_checkpoints(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"x": "other.safetensors"}})
    )
    save_file({"x": torch.zeros(2)}, folder / "other.safetensors")


def unlisted(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    names = dict.fromkeys([LAYER], "part.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def a_pipe(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def a_config_that_never_ends(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def an_adapter_too(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def an_adapter_alone(folder: Path) -> None:
    (folder / "config.json").unlink()
    an_adapter_too(folder)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (two_checkpoints, "which are two checkpoints; remove the one that is not meant"),
        (unlisted, "index.json and the files it names disagree about"),
        (a_pipe, "model.safetensors: is a (pipe|device), not a file"),
        (a_config_that_never_ends, "config.json: is a (pipe|device), not a file"),
        (an_adapter_too, "a model and an adapter, of which transformers would load"),
        (an_adapter_alone, "it is an adapter's: name it as adapter"),
    ],
)
def test_folders_that_are_read_in_two_ways_or_none(
    model: Path, spoil: Callable[[Path], None], match: str
) -> None:
    spoil(model)
    with pytest.raises(InputError, match=match):
        inspect_model(model)


def test_architectures_with_other_names_for_sizes_are_read_all_the_same(tmp_path: Path) -> None:
    """They are refused for what they are, by whoever asks an exporter, and not for a size that is missing."""
    config = transformers.GPT2Config(n_layer=2, n_head=4, n_embd=64, vocab_size=512)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    info = inspect_model(tmp_path)
    assert (info.architecture, info.layers) == ("GPT2LMHeadModel", 0)
    assert info.as_dict()["layers"] is None
    with pytest.raises(InputError, match="num_hidden_layers is missing"):
        info.require_sizes()
