"""Models the decoder exporter can't be trusted with are refused before anything is trained."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgepeft.models import inspect_model
from edgepeft_exporters.decoder import EXPORTER
from edgepeft_exporters.decoder.sources import SOURCES
from tests.conftest import ModelMaker
from tests.exporters.chain import CASES, LLAMA3, LONGROPE
from tests.tiny import FAMILIES, INTERMEDIATE_SIZE


def refusal(model: Path, folder: Path, changes: dict[str, Any]) -> str | None:
    """What the exporter says of ``model`` with its configuration changed."""
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return EXPORTER.refuses(inspect_model(folder))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"vision_config": {}}, "also takes images or sound"),
        ({"audio_config": {}}, "also takes images or sound"),
        ({"num_local_experts": 8}, "mixture of experts"),
        ({"n_routed_experts": 64}, "mixture of experts"),
        ({"architectures": ["FalconForCausalLM"]}, "FalconForCausalLM is not supported; supported"),
        ({"is_causal": False}, "is_causal: False is not supported"),
        ({"per_layer_config": {"0": {"num_attention_heads": 2}}}, "per_layer_config"),
        ({"hidden_act": "mish"}, "hidden_act: mish is not supported; these are: silu"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rotary scaling yarn has no usable factor"),
        ({"rope_scaling": {"type": "linear", "factor": -4.0}}, "scaling linear has no usable"),
        (
            {"rope_parameters": {**LLAMA3, "high_freq_factor": None}},
            "rotary scaling llama3 has no usable high_freq_factor",
        ),
        ({"rope_parameters": {"rope_type": "proportional"}}, "scaling proportional is not"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rotary scaling dynamic is not"),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "proportional"}}},
            "rotary scaling proportional is not",
        ),
        # Supported for Phi-3 alone.
        ({"rope_scaling": {**LONGROPE, "type": "longrope"}}, "rotary scaling longrope is not"),
        ({"partial_rotary_factor": 0.75}, "only a part of each attention head"),
        ({"layer_types": ["mamba", "full_attention"]}, "layer_types: mamba layers are not"),
        (
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "only a part",
        ),
    ],
)
def test_refused_in_one_line(
    tiny_model: ModelMaker, tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    answer = refusal(tiny_model("llama"), tmp_path / "model", changes)
    assert answer is not None
    assert match in answer
    assert "\n" not in answer


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"layer_types": ["conv"] * 3}, "layer_types: none is full_attention, and one or more"),
        ({"layer_types": ["conv", "full_attention"]}, "has 2 kinds, but num_hidden_layers is 3"),
        ({"layer_types": ["conv", "sliding_attention", "conv"]}, "sliding_attention layers are"),
        ({"layer_types": None, "full_attn_idxs": []}, "layer_types: none is full_attention"),
        ({"conv_L_cache": 1}, "conv_L_cache: 1 is not a number of tokens from 2 on"),
        ({"conv_L_cache": "3"}, "conv_L_cache: 3 is not"),
        ({"num_experts": 8}, "mixture of experts"),
    ],
)
def test_convolutions_refused_in_one_line(
    tiny_model: ModelMaker, tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    answer = refusal(tiny_model("lfm2"), tmp_path / "model", changes)
    assert answer is not None
    assert match in answer
    assert "\n" not in answer


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("lfm2", {"layer_types": None, "full_attn_idxs": [1]}),
        ("lfm2", {"block_ff_dim": 160, "tie_embedding": True, "intermediate_size": 9}),
        ("llama", {}),
        ("llama", {"vocab_size": INTERMEDIATE_SIZE}),
        # Keys of other families, which transformers does not read here.
        ("llama", {"hidden_activation": "mish", "attn_logit_softcapping": 50.0}),
        ("llama", {"num_local_experts": 1}),
        ("llama", {"rope_parameters": LLAMA3}),
        (
            "phi3",
            {
                "rope_scaling": {**LONGROPE, "type": "longrope"},
                "original_max_position_embeddings": 32,
            },
        ),
        ("phi3", {"rope_scaling": None, "partial_rotary_factor": 1.0}),
        ("gemma3", {"rope_parameters": {"full_attention": {"rope_type": "default"}}}),
        ("qwen2", {"quantization_config": None}),
    ],
)
def test_taken(
    tiny_model: ModelMaker, tmp_path: Path, family: str, changes: dict[str, Any]
) -> None:
    assert refusal(tiny_model(family), tmp_path / "model", changes) is None


def test_every_family_of_the_tests_is_listed(tiny_model: ModelMaker) -> None:
    infos = [inspect_model(tiny_model(family)) for family in FAMILIES]
    assert {info.architecture for info in infos} <= set(SOURCES)
    assert {case.family for case in CASES.values()} == set(FAMILIES)
    assert [EXPORTER.refuses(info) for info in infos] == [None] * len(infos)


def test_asking_needs_no_heavy_library() -> None:
    program = (
        "import sys, edgepeft_exporters.decoder, edgepeft_exporters.targets; "
        "sys.exit(bool({'torch', 'onnx_ir', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
