"""The language model inside a larger one that also takes images: its configuration by itself, and its tensors.

Without an image the larger model is its language model and nothing else, so that part is a decoder like others.
Which architectures that holds for is a table; each is held against transformers' whole model by the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepeft.models.names import unwrapped

LARGER = ("Gemma3ForConditionalGeneration", "Mistral3ForConditionalGeneration")
"""Architectures whose language model is taken by itself."""
ALONE: Mapping[str, str] = {
    "gemma3_text": "Gemma3ForCausalLM",
    "mistral": "MistralForCausalLM",
}
"""Architectures of language models by the ``model_type`` that they have in a larger one's configuration."""
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
    "mistral": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
    },
}
"""Sizes that a configuration of such a part means by leaving them out: transformers' own, which the tests hold
them against. Published ones leave most of them out.
"""
_BESIDE = ("vision_tower.", "multi_modal_projector.")
"""How names of tensors begin that are for images, inside ``model.`` or not."""


def text_part(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The configuration of the language model inside the model that ``config`` describes; None for any other."""
    named = config.get("architectures")
    text = config.get("text_config")
    if not isinstance(named, list) or not isinstance(text, dict) or named[:1] == []:
        return None
    kind = str(text.get("model_type"))
    if named[0] not in LARGER or kind not in ALONE:
        return None
    own = {**text, "tie_word_embeddings": config.get("tie_word_embeddings", True)}
    own |= {key: size for key, size in UNSAID[kind].items() if own.get(key) is None}
    for key in ("bos_token_id", "eos_token_id", "pad_token_id", "quantization_config"):
        if config.get(key) is not None:
            own.setdefault(key, config[key])
    return {**own, "architectures": [ALONE[kind]]}


def is_beside(name: str) -> bool:
    """Whether a tensor of a larger model is for images alone."""
    return unwrapped(name).removeprefix("model.").startswith(_BESIDE)
