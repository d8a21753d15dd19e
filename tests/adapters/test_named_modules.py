"""Names of modules that a model lacks: the same are told of a folder and of a GGUF file of the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from edgepeft.adapters.fit import unknown_modules
from edgepeft.models import inspect_model
from edgepeft.models.names import of_gguf
from tests.conftest import ModelMaker
from tests.tiny_gguf import write_tiny_gguf

NAMED = (
    "q_proj",
    "self_attn.v_proj",
    "mlp.down_proj",
    "gate_projj",
    "query",
    "lm_head",
    "1.mlp.up_proj",
)


def test_a_gguf_file_has_the_modules_of_its_folder(tiny_model: ModelMaker, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    folder = tiny_model("llama")
    file = write_tiny_gguf(folder, tmp_path / "m.gguf")
    for model in (folder, file):
        assert unknown_modules(NAMED, inspect_model(model)) == ["gate_projj", "query"]
    info = inspect_model(file)
    own = of_gguf(module for module, _ in info.matrices)
    layers = {name.removesuffix(".weight") for name in load_file(folder / "model.safetensors")}
    assert set(own or ()) == {name for name in layers if name.endswith("_proj")}
    # What other models have, only transformers can name.
    odd = replace(
        info, tensors={**info.tensors, "blk.0.ssm_in.weight": info.tensors["blk.0.attn_q.weight"]}
    )
    assert unknown_modules(["whatever"], odd) == []


def test_both_halves_in_one_product() -> None:
    assert of_gguf(["blk.0.attn_qkv", "blk.0.ffn_up", "token_embd", "output"]) == [
        "model.layers.0.self_attn.qkv_proj",
        "model.layers.0.mlp.gate_up_proj",
    ]
