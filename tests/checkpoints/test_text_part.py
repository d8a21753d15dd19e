"""The language model inside a larger one is staged as the decoder that transformers' whole model runs."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from edgepeft.adapters.plain import plain_adapter
from edgepeft.checkpoints import base as base_stage
from edgepeft.checkpoints.base_stage import base_facts
from edgepeft.checkpoints.declared_config import declared_keys
from edgepeft.checkpoints.skeleton import build_skeleton
from edgepeft.errors import InputError
from edgepeft.evaluation.witness.models import Sources, language_model_inside, load_adapted
from edgepeft.models.inspect import inspect_model
from edgepeft.models.task_resolution import resolve_task
from edgepeft.models.text_part import ALONE, LARGER, UNSAID, text_part
from edgepeft_exporters.decoder import EXPORTER
from edgepeft_exporters.decoder.sources import SOURCES
from tests.architectures.cases import COMMON, PLAIN_ROPE, YARN
from tests.stages import run_stage
from tests.tiny import build_tokenizer

TEXT: Mapping[str, Any] = {**COMMON, **PLAIN_ROPE, "head_dim": 16, "bos_token_id": 1}
MIXED: Mapping[str, Any] = {
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "full_attention"],
    "head_dim": 32,
    "rope_parameters": None,
}
VISION: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
PIXTRAL: Mapping[str, Any] = {**VISION, "model_type": "pixtral", "head_dim": 16}
CLIP: Mapping[str, Any] = {**VISION, "model_type": "clip_vision_model"}
QWEN: Mapping[str, Any] = {"depth": 1, "num_heads": 2, "patch_size": 14, "out_hidden_size": 64}


def three_ways(*sections: int) -> dict[str, Any]:
    """Rotary settings of positions in three directions."""
    return {"rope_type": "default", "rope_theta": 5000.0, "mrope_section": list(sections)}


CASES: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, Any], bool]] = {
    "gemma3": ("Gemma3", {"model_type": "gemma3_text", **MIXED}, VISION, True),
    "mistral3": ("Mistral3", {"model_type": "mistral", "sliding_window": None}, PIXTRAL, False),
    "ministral3": (
        "Mistral3",
        {"model_type": "ministral3", "rope_parameters": {**YARN, "llama_4_scaling_beta": 0.2}},
        PIXTRAL,
        True,
    ),
    "llava": ("Llava", {"model_type": "llama"}, CLIP, False),
    "llava-next": ("LlavaNext", {"model_type": "mistral"}, CLIP, False),
    "llava-onevision": (
        "LlavaOnevision",
        {"model_type": "qwen2"},
        {**VISION, "model_type": "siglip_vision_model"},
        True,
    ),
    "qwen2-vl": (
        "Qwen2VL",
        {"model_type": "qwen2_vl_text", "rope_parameters": three_ways(2, 3, 3)},
        {"depth": 1, "num_heads": 2, "patch_size": 14, "embed_dim": 32, "hidden_size": 64},
        False,
    ),
    "qwen2.5-vl": (
        "Qwen2_5_VL",
        {"model_type": "qwen2_5_vl_text", "rope_parameters": three_ways(2, 3, 3)},
        {**QWEN, "hidden_size": 32, "intermediate_size": 64, "fullatt_block_indexes": [0]},
        True,
    ),
    "qwen3-vl": (
        "Qwen3VL",
        {"model_type": "qwen3_vl_text", "rope_parameters": three_ways(4, 2, 2)},
        {**QWEN, "hidden_size": 32, "intermediate_size": 64, "deepstack_visual_indexes": [0]},
        False,
    ),
    "idefics3": ("Idefics3", {"model_type": "llama"}, VISION, False),
    "smolvlm": ("SmolVLM", {"model_type": "llama"}, VISION, True),
    "internvl": (
        "InternVL",
        {"model_type": "qwen3"},
        {**VISION, "image_size": [28, 28], "patch_size": [14, 14]},
        True,
    ),
    "lfm2-vl": (
        "Lfm2Vl",
        {"model_type": "lfm2", "layer_types": ["conv", "full_attention"]},
        {**VISION, "model_type": "siglip2_vision_model", "num_patches": 16},
        True,
    ),
}


def write_larger(name: str, folder: Path) -> Any:
    """Save a tiny model that takes images into ``folder``, and return it."""
    kind, text, vision, tied = CASES[name]
    config = getattr(transformers, f"{kind}Config")(
        text_config=copy.deepcopy({**TEXT, **text, "tie_word_embeddings": tied}),
        vision_config=dict(vision),
        tie_word_embeddings=tied,
    )
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter_name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator) * 0.08
            around_one = parameter_name.endswith("norm.weight") and name != "gemma3"
            parameter.copy_(noise + (1.0 if around_one else 0.0))
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return model


@pytest.mark.parametrize("name", CASES)
def test_the_part_alone_is_the_whole_without_an_image(tmp_path: Path, name: str) -> None:
    whole = write_larger(name, tmp_path / "model")
    info = inspect_model(tmp_path / "model")
    assert info.inside == type(whole).__name__
    assert EXPORTER.refuses(info) is None
    assert info.tied_embeddings == CASES[name][3]
    staged = run_stage(base_stage.run, tmp_path / "base", {}, {"model": tmp_path / "model"})
    assert base_facts(staged).inside == info.inside
    alone = transformers.AutoModelForCausalLM.from_pretrained(staged, dtype=torch.float32).eval()
    assert type(alone).__name__ == info.architecture
    assert info.parameters == sum(parameter.numel() for parameter in alone.parameters())
    ids = torch.randint(5, 400, (1, 100), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = whole(input_ids=ids).logits
        torch.testing.assert_close(alone(input_ids=ids).logits, wanted)
        # What the second witness runs is the larger model's own.
        inside = language_model_inside(whole, type(alone))
        torch.testing.assert_close(inside(input_ids=ids).logits, wanted)
    assert not any("vision" in name for name, _ in inside.named_modules())


def test_the_witness_runs_the_whole_models_adapter(tmp_path: Path) -> None:
    """PEFT's own logits of an adapter that was trained on the larger model, images and all."""
    whole = write_larger("gemma3", tmp_path / "model")
    adapted = get_peft_model(whole, LoraConfig(r=4, target_modules="all-linear")).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    staged = run_stage(base_stage.run, tmp_path / "base", {}, {"model": tmp_path / "model"})
    modules = [name for name, _ in build_skeleton(staged).named_modules() if name]
    plain = plain_adapter(tmp_path / "adapter", modules, tmp_path / "plain")
    found = load_adapted(
        Sources(
            model=tmp_path / "model",
            adapter=plain,
            whole=False,
            merge_base="dequantized",
            grid={"kind": "none", "block_size": 64, "double_quant": False},
            quantized=None,
            auto_class="AutoModelForImageTextToText",
            alone="Gemma3ForCausalLM",
        )
    )
    ids = torch.randint(5, 400, (1, 60), generator=generator)
    with torch.no_grad():
        wanted = adapted(input_ids=ids).logits
        torch.testing.assert_close(found(input_ids=ids).logits, wanted)
        adapted.disable_adapter_layers()
        assert float((adapted(input_ids=ids).logits - wanted).abs().max()) > 0.1


def test_every_row_of_the_tables_is_tried() -> None:
    assert {f"{kind}ForConditionalGeneration" for kind, *_ in CASES.values()} == set(LARGER)
    assert {text["model_type"] for _, text, *_ in CASES.values()} == set(ALONE)
    assert {architecture for architecture, _ in ALONE.values()} <= set(SOURCES)


def test_a_flat_configuration_of_qwens_is_read(tmp_path: Path) -> None:
    write_larger("qwen2.5-vl", tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    flat = {
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": [1]},
    }
    kept = {key: value for key, value in text.items() if key != "model_type"}
    found = text_part({**kept, **config, **flat})
    assert found is not None
    assert (found["model_type"], found["hidden_size"]) == ("qwen2", 64)
    assert found["rope_scaling"] == {"type": "default"}
    assert "vision_config" not in found


@pytest.mark.parametrize("kind", UNSAID)
def test_numbers_that_are_left_out_are_those_of_transformers(kind: str) -> None:
    config = transformers.AutoConfig.for_model(kind)
    said = {**config.to_dict(), **config.rope_parameters}
    assert {key: said[key] for key in UNSAID[kind]} == UNSAID[kind]


@pytest.mark.parametrize("kind", [one for one, (_, own) in ALONE.items() if one != own])
def test_what_is_left_out_means_the_same_under_another_type(kind: str) -> None:
    inner, own = (transformers.AutoConfig.for_model(one) for one in (kind, ALONE[kind][1]))
    # Published configurations say their sizes, and what follows from those.
    said = {
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
        *("num_attention_heads", "num_key_value_heads", "max_position_embeddings"),
        *("max_window_layers", "layer_types", "head_dim", "bos_token_id", "eos_token_id"),
    }
    both = declared_keys(type(inner)) & declared_keys(type(own)) - said
    differ = {key for key in both if getattr(inner, key, None) != getattr(own, key, None)}
    renamed = {"rope_parameters"} if "rope_theta" in UNSAID[kind] else set()
    assert differ - renamed <= set(UNSAID[kind])


def test_what_is_not_taken_is_refused_in_one_line(tmp_path: Path) -> None:
    write_larger("llava", tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["text_config"]["model_type"] = "granite"
    path.write_text(json.dumps(config))
    assert str(EXPORTER.refuses(inspect_model(tmp_path))).startswith(
        "LlavaForConditionalGeneration with a language model granite is not supported; with these it is"
    )
    config["text_config"]["model_type"] = "llama"
    path.write_text(json.dumps(config))
    info = inspect_model(tmp_path)
    rounded = replace(info, config={**info.config, "quantization_config": {"quant_method": "fp8"}})
    assert "already quantized, which is not supported inside Llava" in str(
        EXPORTER.refuses(rounded)
    )
    with pytest.raises(InputError, match="inside LlavaForConditionalGeneration supports text-gen"):
        resolve_task("text-classification", inspect_model(tmp_path), [])
