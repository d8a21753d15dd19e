"""A model's modules without its weights: the names that every stage goes by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.skeleton import (
    build_skeleton,
    head_and_embedding_names,
    linear_weight_names,
)
from tests.conftest import ModelMaker
from tests.tiny import FAMILIES, TIED

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.mark.parametrize("family", FAMILIES)
def test_names_are_the_checkpoints_and_parameters_take_no_memory(
    tiny_model: ModelMaker, family: str
) -> None:
    folder = tiny_model(family)
    skeleton = build_skeleton(folder)
    stored = SafetensorsSource.from_folder(folder).specs
    parameters = dict(skeleton.named_parameters())
    assert parameters.keys() == stored.keys()
    for name, parameter in parameters.items():
        assert parameter.is_meta
        assert parameter.dtype == torch.float32
        assert tuple(parameter.shape) == stored[name].shape
    assert not skeleton.training


@pytest.mark.parametrize("family", FAMILIES)
def test_linear_layers_are_those_below_the_head(tiny_model: ModelMaker, family: str) -> None:
    skeleton = build_skeleton(tiny_model(family))
    names = linear_weight_names(skeleton)
    # Phi-3 keeps queries, keys and values in one weight, gate and up in another; a convolution of LFM2 lies
    # between two products.
    per_layer = 4 if family == "phi3" else 7
    others = 2 * (7 - 5) if family == "lfm2" else 0
    assert len(names) == per_layer * skeleton.config.num_hidden_layers - others
    assert len(set(names)) == len(names)
    ends = ("_proj.weight", "w1.weight", "w2.weight", "w3.weight")
    assert all(name.endswith(ends) for name in names)


@pytest.mark.parametrize("family", FAMILIES)
def test_head_and_embedding_are_one_name_where_tied(tiny_model: ModelMaker, family: str) -> None:
    skeleton = build_skeleton(tiny_model(family))
    expected = (EMBEDDING, EMBEDDING) if family in TIED else (HEAD, EMBEDDING)
    assert head_and_embedding_names(skeleton) == expected
    loaded = AutoModelForCausalLM.from_pretrained(tiny_model(family))
    assert head_and_embedding_names(loaded) == expected


@pytest.mark.parametrize("tied", [False, True])
def test_tying_is_the_configurations_to_say(tiny_model: ModelMaker, tied: bool) -> None:
    skeleton = build_skeleton(tiny_model("qwen2", tied=tied))
    same = skeleton.get_output_embeddings().weight is skeleton.get_input_embeddings().weight
    assert same == tied


@pytest.mark.parametrize("family", ["llama", "gemma3", "phi3"])
def test_buffers_are_real_and_right(tiny_model: ModelMaker, family: str) -> None:
    skeleton = build_skeleton(tiny_model(family))
    loaded = dict(AutoModelForCausalLM.from_pretrained(tiny_model(family)).named_buffers())
    buffers = dict(skeleton.named_buffers())
    assert any("inv_freq" in name for name in buffers)
    for name, buffer in buffers.items():
        assert torch.equal(buffer, loaded[name]), name


def test_half_precision_checkpoints_have_float32_skeletons(tiny_model: ModelMaker) -> None:
    skeleton = build_skeleton(tiny_model("llama", dtype="bfloat16"))
    assert {parameter.dtype for parameter in skeleton.parameters()} == {torch.float32}


def test_code_in_the_folder_is_never_run(tiny_model: ModelMaker, tmp_path: Path) -> None:
    folder = tiny_model("llama")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "code.Mine"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    marker = tmp_path / "was-run"
    (tmp_path / "code.py").write_text(f"open({str(marker)!r}, 'w')\nclass Mine: pass\n")
    with pytest.raises(ValueError, match=r"trust_remote_code|code"):
        build_skeleton(tmp_path)
    assert not marker.exists()
