"""The language model inside a larger one that also takes images: its configuration by itself, and its tensors.

Without an image the larger model is its language model and nothing else, so that part is a decoder like others.
Which architectures that holds for is a table; each is held against transformers' whole model by the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepeft.models.names import unwrapped
from edgepeft.models.older_keys import in_todays_keys

LARGER = (
    *("Gemma3ForConditionalGeneration", "Mistral3ForConditionalGeneration"),
    *("Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"),
    *("Qwen3VLForConditionalGeneration", "LlavaForConditionalGeneration"),
    *("LlavaNextForConditionalGeneration", "LlavaOnevisionForConditionalGeneration"),
    *("Idefics3ForConditionalGeneration", "SmolVLMForConditionalGeneration"),
    *("InternVLForConditionalGeneration", "Lfm2VlForConditionalGeneration"),
)
"""Architectures whose language model is taken by itself."""
ALONE: Mapping[str, tuple[str, str]] = {
    "gemma3_text": ("Gemma3ForCausalLM", "gemma3_text"),
    "mistral": ("MistralForCausalLM", "mistral"),
    "ministral3": ("Ministral3ForCausalLM", "ministral3"),
    "llama": ("LlamaForCausalLM", "llama"),
    "qwen2": ("Qwen2ForCausalLM", "qwen2"),
    "qwen3": ("Qwen3ForCausalLM", "qwen3"),
    "lfm2": ("Lfm2ForCausalLM", "lfm2"),
    # Positions in three directions are those of a text where there is no image.
    "qwen2_vl_text": ("Qwen2ForCausalLM", "qwen2"),
    "qwen2_5_vl_text": ("Qwen2ForCausalLM", "qwen2"),
    "qwen3_vl_text": ("Qwen3ForCausalLM", "qwen3"),
}
"""Architecture and ``model_type`` of language models by the type that a larger model's configuration gives them.

Granite's and Cohere's are none: inside a larger model, transformers leaves out what they do to their logits.
"""
UNSAID: Mapping[str, Mapping[str, Any]] = {
    "gemma3_text": {
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
    },
    "llama": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "mistral": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "lfm2": {
        "vocab_size": 65536,
        "hidden_size": 2560,
        "intermediate_size": 12288,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 128000,
    },
    "qwen2_vl_text": {"rms_norm_eps": 1e-5, "rope_theta": 1000000.0},
    "qwen2_5_vl_text": {"rms_norm_eps": 1e-5, "rope_theta": 1000000.0},
    "qwen3_vl_text": {"rope_theta": 500000.0},
}
"""Numbers that a configuration of such a part means by leaving them out, as published ones do, or that mean
others under the type it is given: transformers' own, which the tests hold them against.
"""
_FLAT = {
    "Qwen2VLForConditionalGeneration": "qwen2_vl_text",
    "Qwen2_5_VLForConditionalGeneration": "qwen2_5_vl_text",
}
"""Architectures whose first configurations have no part for the language model, and what its type is."""
_BESIDE = (
    *("vision_tower.", "multi_modal_projector.", "visual.", "vision_model.", "connector."),
    "image_newline",
)
"""How names of tensors begin that are for images, inside ``model.`` or not."""


def text_part(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The configuration of the language model inside the model that ``config`` describes; None for any other."""
    config = in_todays_keys(config)
    named = config.get("architectures")
    larger = named[0] if isinstance(named, list) and named else None
    text = config.get("text_config")
    if larger in _FLAT and not isinstance(text, dict):
        text = {**config, "model_type": _FLAT[larger]}
        text.pop("vision_config", None)
    if larger not in LARGER or not isinstance(text, dict):
        return None
    kind = str(text.get("model_type"))
    if kind not in ALONE:
        return None
    architecture, own_kind = ALONE[kind]
    text = in_todays_keys(text)
    own = {**text, "tie_word_embeddings": _tied(config, text)}
    own |= {key: size for key, size in UNSAID.get(kind, {}).items() if own.get(key) is None}
    for key in ("bos_token_id", "eos_token_id", "pad_token_id", "quantization_config"):
        if config.get(key) is not None:
            own.setdefault(key, config[key])
    for key in ("rope_scaling", "rope_parameters"):
        if isinstance(own.get(key), dict):
            own[key] = _in_one_direction(own[key])
    return {**own, "architectures": [architecture], "model_type": own_kind}


def is_beside(name: str) -> bool:
    """Whether a tensor of a larger model is for images alone."""
    return unwrapped(name).removeprefix("model.").startswith(_BESIDE)


def _tied(config: Mapping[str, Any], text: Mapping[str, Any]) -> bool:
    """Whether embedding and head are one tensor, unless a head is stored: the larger model says so."""
    return bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", True)))


def _in_one_direction(rotary: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings without what tells the directions of an image apart."""
    kept = {key: value for key, value in rotary.items() if not key.startswith("mrope_")}
    return {key: "default" if value == "mrope" else value for key, value in kept.items()}
