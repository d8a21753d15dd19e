"""The architecture matrix: every supported family with each option that its configuration has.

A case is a configuration, with what is changed in the files afterwards. Models are tiny, of random weights,
and large enough in scale that an option that is passed over shows in the logits.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.tiny import BOS, EOS, PAD, build_tokenizer

LONGEST = 400
"""Tokens of the long prompt: past every window and every threshold of rotary scaling among the cases."""

COMMON: Mapping[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "initializer_range": 0.08,
}
PLAIN_ROPE: Mapping[str, Any] = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
LLAMA3: Mapping[str, Any] = {
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
}


LINEAR: Mapping[str, Any] = {
    "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
}


YARN: Mapping[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
}


def partly(rotary: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Rotary settings that rotate a share of each attention head."""
    return {
        **rotary,
        "rope_parameters": {**rotary["rope_parameters"], "partial_rotary_factor": share},
    }


def longrope(threshold: int, size: int = 8) -> dict[str, Any]:
    """Phi-3's long rotary scaling with its switch after ``threshold`` tokens, for heads of twice ``size``."""
    return {
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0 + 0.05 * i for i in range(size)],
            "long_factor": [1.5 + 0.3 * i for i in range(size)],
            "original_max_position_embeddings": threshold,
        },
        "original_max_position_embeddings": threshold,
    }


@dataclass(frozen=True)
class Case:
    """A model: transformers' name of its family, its configuration beside the common one, and how it is stored.

    ``stray`` goes into ``config.json`` after saving, past transformers, and ``without`` is taken out of it.
    ``own_head`` stores a head of its own in a checkpoint that says it has none.
    """

    family: str
    config: Mapping[str, Any] = field(default_factory=dict)
    stray: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    dtype: str = "float32"
    shards: int = 1
    own_head: bool = False


_OWN: Mapping[str, Mapping[str, Any]] = {
    "Llama": {**PLAIN_ROPE, "head_dim": 16},
    "Mistral": {**PLAIN_ROPE, "head_dim": 16, "sliding_window": None},
    "Qwen2": PLAIN_ROPE,
    "Qwen3": {**PLAIN_ROPE, "head_dim": 32},
    "Gemma": {**PLAIN_ROPE, "head_dim": 32, "tie_word_embeddings": True},
    "Gemma2": {
        **PLAIN_ROPE,
        "head_dim": 32,
        "query_pre_attn_scalar": 32,
        "sliding_window": 16,
        "final_logit_softcapping": 2.0,
        "attn_logit_softcapping": 0.5,
        "tie_word_embeddings": True,
    },
    "Gemma3": {
        "head_dim": 32,
        "num_hidden_layers": 4,
        "query_pre_attn_scalar": 32,
        "sliding_window": 16,
        "layer_types": [*["sliding_attention"] * 3, "full_attention"],
        "tie_word_embeddings": True,
    },
    "Phi3": {**PLAIN_ROPE, "original_max_position_embeddings": 512},
    "SmolLM3": {**PLAIN_ROPE, "num_hidden_layers": 4, "tie_word_embeddings": True},
    "Granite": {
        **PLAIN_ROPE,
        "logits_scaling": 0.5,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.1,
    },
    "Ernie4_5": {**PLAIN_ROPE, "head_dim": 16, "tie_word_embeddings": True},
    "HunYuanDenseV1": {**PLAIN_ROPE, "head_dim": 16},
    "Olmo2": PLAIN_ROPE,
    "Olmo3": {
        "num_hidden_layers": 4,
        "sliding_window": 16,
        "layer_types": [*["sliding_attention"] * 3, "full_attention"],
    },
    "Exaone4": {
        **PLAIN_ROPE,
        "num_hidden_layers": 4,
        "sliding_window": 16,
        "layer_types": [*["sliding_attention"] * 3, "full_attention"],
    },
    "Glm": {**partly(PLAIN_ROPE, 0.5), "head_dim": 32},
    "Glm4": {**partly(PLAIN_ROPE, 0.5), "head_dim": 32},
    "Arcee": PLAIN_ROPE,
    "Nemotron": {**partly(PLAIN_ROPE, 0.5), "head_dim": 32},
    "Starcoder2": {**PLAIN_ROPE, "tie_word_embeddings": True},
    # Without experts and without recurrent layers, as its dense sizes are.
    "GraniteMoeHybrid": {
        **PLAIN_ROPE,
        "layer_types": ["full_attention"] * 2,
        "num_local_experts": 0,
        "shared_intermediate_size": 160,
        "position_embedding_type": "rope",
        "logits_scaling": 0.5,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.1,
        "mamba_n_heads": 4,
    },
    "Ministral": {
        **PLAIN_ROPE,
        "head_dim": 16,
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "Ministral3": {
        "rope_parameters": {**YARN, "llama_4_scaling_beta": 0.2},
        "head_dim": 16,
        "sliding_window": None,
    },
    "SeedOss": {**PLAIN_ROPE, "head_dim": 16},
    # Heads of 32 numbers, of which 16 are rotated.
    "StableLm": {**partly(PLAIN_ROPE, 0.5), "hidden_size": 128},
    "Phi": {**partly(PLAIN_ROPE, 0.5), "hidden_size": 128, "hidden_act": "gelu_new"},
    "GPTNeoX": {**partly(PLAIN_ROPE, 0.5), "hidden_size": 128, "hidden_act": "gelu"},
    "Cohere": {**PLAIN_ROPE, "logit_scale": 0.75, "tie_word_embeddings": True},
    "Cohere2": {
        **PLAIN_ROPE,
        "num_hidden_layers": 4,
        "sliding_window": 16,
        "layer_types": [*["sliding_attention"] * 3, "full_attention"],
        "logit_scale": 0.75,
        "tie_word_embeddings": True,
    },
    "Apertus": {**LLAMA3, "hidden_act": "xielu"},
    "Helium": {**PLAIN_ROPE, "head_dim": 16},
    # A convolution comes first, as in the published sizes, whose width of the inner layer is worked out too.
    "Lfm2": {
        **PLAIN_ROPE,
        "num_hidden_layers": 4,
        "layer_types": ["conv", "conv", "full_attention", "conv"],
        "block_auto_adjust_ff_dim": True,
        "block_multiple_of": 32,
        "tie_word_embeddings": True,
    },
}
_FIXED: Mapping[str, tuple[str, ...]] = {
    "StableLm": ("head_dim",),
    "GPTNeoX": ("head_dim", "num_key_value_heads"),
    "Helium": ("head_dim",),
}
"""What follows from other numbers in some families."""
_SILENT: Mapping[str, Mapping[str, Any]] = {
    "StableLm": {"hidden_size": 256},
    "GPTNeoX": {"hidden_size": 256},
}
"""Sizes at which a quarter of each head can be rotated, as a configuration means that says nothing."""
FAMILIES = tuple(_OWN)

# Keys of other families, as tools leave them behind; no class below declares them unless it honours them.
_STRAYS: Mapping[str, Any] = {
    "sliding_window": 8,
    "attn_logit_softcapping": 0.5,
    "final_logit_softcapping": 2.0,
    "hidden_activation": "gelu",
    "rope_position_scale": 3,
    "partial_rotary_factor_": 0.5,
    "ffn_hidden_size": 96,
    "seq_length": 64,
    "num_layers": 1,
    "multi_query_group_num": 1,
    "rope_embedding_base": 500.0,
    "logits_scaling": 4.0,
    "embedding_multiplier": 4.0,
    "use_bidirectional_attention": True,
    "query_pre_attn_scalar": 7,
    "swiglu_limit": 0.1,
    "logit_scale": 3.0,
    "use_parallel_residual": True,
    "rotary_pct": 0.5,
    "no_rope_layers": [0, 0],
    "window_size": 4,
    "num_local_experts": 1,
}


def stray(family: str) -> dict[str, Any]:
    """The keys of other families that ``family`` does not declare."""
    import transformers

    from edgepeft.checkpoints.declared_config import declared_keys

    kind = getattr(transformers, f"{'Gemma3Text' if family == 'Gemma3' else family}Config")
    return {key: value for key, value in _STRAYS.items() if key not in declared_keys(kind)}


def _all() -> Iterator[tuple[str, Case]]:
    for family, own in _OWN.items():
        low = family.lower()

        def case(_family: str = family, **given: Any) -> Case:
            return Case(_family, **given)

        fixed = _FIXED.get(family, ())
        tied = bool(own.get("tie_word_embeddings"))
        yield low, case()
        yield (
            f"{low}-{'untied' if tied else 'tied'}",
            case(config={"tie_word_embeddings": not tied}),
        )
        yield f"{low}-own-head", case(config={"tie_word_embeddings": True}, own_head=True)
        yield f"{low}-strays", case(stray=stray(family))
        if "num_key_value_heads" not in fixed:
            yield f"{low}-one-kv-head", case(config={"num_key_value_heads": 1})
            yield f"{low}-all-kv-heads", case(config={"num_key_value_heads": 4})
        # Half of a head is rotated in some.
        size = 32 if "partial_rotary_factor" in str(own) else 16
        if "head_dim" in fixed:
            yield (
                f"{low}-narrow",
                case(
                    config={
                        "hidden_size": 3 * size,
                        "num_attention_heads": 3,
                        "num_key_value_heads": 3,
                        "intermediate_size": 100,
                    }
                ),
            )
        else:
            yield (
                f"{low}-narrow",
                case(config={"hidden_size": 72, "intermediate_size": 100, "head_dim": size}),
            )
            yield f"{low}-wide-head", case(config={"head_dim": 64})
        yield f"{low}-bfloat16", case(dtype="bfloat16")
        yield f"{low}-float16-shards", case(dtype="float16", shards=2)
        yield (
            f"{low}-no-ids",
            case(config={"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}),
        )
        yield f"{low}-vocab-is-inner", case(config={"intermediate_size": 512})
        yield (
            f"{low}-vocab-is-hidden",
            case(
                config={
                    "hidden_size": 512,
                    "num_attention_heads": 8,
                    "head_dim": 64,
                    "intermediate_size": 96,
                }
            ),
        )
        if "rope_parameters" in own and family != "Ministral3":
            yield (
                f"{low}-theta",
                case(
                    config={
                        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
                        **_SILENT.get(family, {}),
                    }
                ),
            )
    yield "llama-llama3", Case("Llama", LLAMA3)
    yield "llama-biases", Case("Llama", {"attention_bias": True, "mlp_bias": True})
    yield "llama-gelu", Case("Llama", {"hidden_act": "gelu"})
    yield "llama-relu2", Case("Llama", {"hidden_act": "relu2"})
    yield "llama-eps", Case("Llama", {"rms_norm_eps": 1e-2})
    yield "llama-flat-rope", Case("Llama", stray={"rope_theta": 77.0, "rope_parameters": None})
    yield (
        "llama-rope-extras",
        Case(
            "Llama",
            stray={
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 10000.0,
                    "factor": 4.0,
                    "original_max_position_embeddings": 32,
                    "sliding_window": 8,
                }
            },
        ),
    )
    yield "mistral-window", Case("Mistral", {"sliding_window": 16})
    yield "mistral-wide-window", Case("Mistral", {"sliding_window": 300})
    yield (
        "qwen2-window",
        Case("Qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}),
    )
    for family in ("Qwen2", "Qwen3"):
        yield (
            f"{family.lower()}-layer-types",
            Case(
                family,
                {
                    "use_sliding_window": True,
                    "sliding_window": 16,
                    "layer_types": ["full_attention", "sliding_attention"],
                },
            ),
        )
    yield "gemma2-wide-window", Case("Gemma2", {"sliding_window": 300})
    yield "gemma3-wide-window", Case("Gemma3", {"sliding_window": 300})
    scaled = longrope(32)
    scaled["rope_parameters"]["attention_factor"] = 1.7
    yield "phi3-scaled", Case("Phi3", scaled)
    yield "phi3-two-lengths", Case("Phi3", {"original_max_position_embeddings": 64})
    yield "qwen2-unused-window", Case("Qwen2", {"use_sliding_window": False, "sliding_window": 16})
    yield "qwen2-undeclared-head", Case("Qwen2", {"head_dim": 32})
    yield (
        "qwen3-window",
        Case("Qwen3", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}),
    )
    yield "qwen3-biases", Case("Qwen3", {"attention_bias": True})
    yield (
        "gemma2-no-caps",
        Case("Gemma2", {"final_logit_softcapping": None, "attn_logit_softcapping": None}),
    )
    yield "gemma2-biases", Case("Gemma2", {"attention_bias": True})
    yield "gemma2-full", Case("Gemma2", {"layer_types": ["full_attention"] * 2})
    yield "gemma2-tanh", Case("Gemma2", {"hidden_activation": "gelu"})
    yield "gemma2-scalar", Case("Gemma2", {"query_pre_attn_scalar": 7})
    yield "gemma3-full", Case("Gemma3", {"layer_types": ["full_attention"] * 4})
    yield "gemma3-final-cap", Case("Gemma3", {"final_logit_softcapping": 2.0})
    yield "gemma3-biases", Case("Gemma3", {"attention_bias": True})
    yield "gemma3-scalar", Case("Gemma3", {"query_pre_attn_scalar": 7})
    yield (
        "gemma3-thetas",
        Case(
            "Gemma3",
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "default", "rope_theta": 777.0},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 55.0},
                }
            },
        ),
    )
    # Fused products as high as the vocabulary.
    yield "phi3-vocab-is-gate-up", Case("Phi3", {"intermediate_size": 256})
    fused = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 16}
    yield "phi3-vocab-is-qkv", Case("Phi3", {**fused, "hidden_size": 256})
    yield "llama-vocab-is-qkv", Case("Llama", fused)
    yield "phi3-window", Case("Phi3", {"sliding_window": 16})
    yield "phi3-long", Case("Phi3", longrope(32))
    yield "phi3-long-window", Case("Phi3", {**longrope(32), "sliding_window": 100})
    # Where onnxruntime-genai computes its cache anew, which is at no other length.
    yield "phi3-long-4096", Case("Phi3", {**longrope(4096), "max_position_embeddings": 8192})
    yield "phi3-long-short-prompt", Case("Phi3", longrope(450))
    yield "phi3-partial", Case("Phi3", {**partly(PLAIN_ROPE, 0.5), "head_dim": 64})
    # As Phi-4 mini has it.
    wide = {"hidden_size": 256, "tie_word_embeddings": True}
    yield "phi3-partial-long", Case("Phi3", {**partly(longrope(32, 24), 0.75), **wide})
    for family in ("Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Granite", "Ernie4_5"):
        yield f"{family.lower()}-linear", Case(family, LINEAR)
    yield "phi3-eps", Case("Phi3", {"rms_norm_eps": 1e-2})
    yield "smollm3-rope-layers", Case("SmolLM3", {"no_rope_layers": [1, 0, 0, 1]})
    yield "smollm3-interval", Case("SmolLM3", {"no_rope_layers": None, "no_rope_layer_interval": 2})
    yield "smollm3-biases", Case("SmolLM3", {"attention_bias": True, "mlp_bias": True})
    yield (
        "smollm3-window",
        Case(
            "SmolLM3",
            {
                "use_sliding_window": True,
                "sliding_window": 16,
                "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
            },
        ),
    )
    yield "gemma-biases", Case("Gemma", {"attention_bias": True})
    yield "gemma-relu", Case("Gemma", {"hidden_act": "relu"})
    yield "ernie4_5-biases", Case("Ernie4_5", {"use_bias": True})
    yield "hunyuandensev1-biases", Case("HunYuanDenseV1", {"attention_bias": True})
    yield (
        "hunyuandensev1-dynamic",
        Case(
            "HunYuanDenseV1",
            {
                "rope_parameters": {
                    "rope_type": "dynamic",
                    "rope_theta": 10000.0,
                    "alpha": 1000.0,
                    "factor": 1.0,
                }
            },
        ),
    )
    for family in ("Olmo2", "Olmo3"):
        yield f"{family.lower()}-biases", Case(family, {"attention_bias": True})
    yield "olmo2-linear", Case("Olmo2", LINEAR)
    yield "olmo2-yarn", Case("Olmo2", {"rope_parameters": YARN})
    for family in ("Llama", "Mistral", "Qwen2", "Qwen3", "SmolLM3", "Granite", "Ernie4_5"):
        yield f"{family.lower()}-yarn", Case(family, {"rope_parameters": YARN})
    for family in ("Llama", "SmolLM3"):
        yield f"{family.lower()}-linear", Case(family, LINEAR)
    yield "hunyuandensev1-llama3", Case("HunYuanDenseV1", LLAMA3)
    yield (
        "gemma3-linear",
        Case(
            "Gemma3",
            {
                "rope_parameters": {
                    "full_attention": {**LINEAR["rope_parameters"], "factor": 8.0},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                }
            },
        ),
    )
    yield (
        "exaone4-no-window",
        Case("Exaone4", {"sliding_window": None, "layer_types": ["full_attention"] * 4}),
    )
    yield "exaone4-full", Case("Exaone4", {"layer_types": ["full_attention"] * 4})
    yield "exaone4-llama3", Case("Exaone4", LLAMA3)
    yield "exaone4-yarn", Case("Exaone4", {"rope_parameters": YARN})
    for family in ("Glm", "Glm4"):
        low = family.lower()
        yield f"{low}-whole-heads", Case(family, partly(PLAIN_ROPE, 1.0))
        yield f"{low}-no-biases", Case(family, {"attention_bias": False})
        yield f"{low}-yarn", Case(family, partly({"rope_parameters": YARN}, 0.5))
    for family in ("Arcee", "Nemotron"):
        yield f"{family.lower()}-biases", Case(family, {"attention_bias": True, "mlp_bias": True})
    yield "arcee-yarn", Case("Arcee", {"rope_parameters": YARN})
    yield "nemotron-eps", Case("Nemotron", {"norm_eps": 1e-2})
    yield "nemotron-whole-heads", Case("Nemotron", partly(PLAIN_ROPE, 1.0))
    yield "starcoder2-eps", Case("Starcoder2", {"norm_epsilon": 1e-2})
    yield "starcoder2-no-biases", Case("Starcoder2", {"use_bias": False})
    yield "starcoder2-window", Case("Starcoder2", {"sliding_window": 16})
    yield "granitemoehybrid-biases", Case("GraniteMoeHybrid", {"attention_bias": True})
    older = {"layer_types": ["attention"] * 2}
    yield "granitemoehybrid-older-kinds", Case("GraniteMoeHybrid", older)
    yield (
        "granitemoehybrid-plain",
        Case(
            "GraniteMoeHybrid",
            {
                "logits_scaling": 1.0,
                "embedding_multiplier": 1.0,
                "residual_multiplier": 1.0,
                "attention_multiplier": 1.0,
                "shared_intermediate_size": 96,
            },
        ),
    )
    yield "ministral-full", Case("Ministral", {"layer_types": ["full_attention"] * 2})
    yield "ministral-wide-window", Case("Ministral", {"sliding_window": 300})
    yield "ministral-yarn", Case("Ministral", {"rope_parameters": YARN})
    slower = {**YARN, "llama_4_scaling_beta": 0.1, "rope_theta": 777.0}
    yield "ministral3-slower", Case("Ministral3", {"rope_parameters": slower})
    yield "ministral3-window", Case("Ministral3", {"sliding_window": 16})
    yield "seedoss-no-biases", Case("SeedOss", {"attention_bias": False})
    yield (
        "seedoss-biases",
        Case("SeedOss", {"attention_out_bias": True, "mlp_bias": True}),
    )
    yield "olmo2-eps", Case("Olmo2", {"rms_norm_eps": 1e-2})
    yield "olmo3-wide-window", Case("Olmo3", {"sliding_window": 300})
    yield "olmo3-full", Case("Olmo3", {"layer_types": ["full_attention"] * 4})
    plain = {"rope_type": "default", "rope_theta": 500.0}
    yield (
        "olmo3-yarn",
        Case("Olmo3", {"rope_parameters": {"full_attention": YARN, "sliding_attention": plain}}),
    )
    for family in ("StableLm", "Phi", "GPTNeoX"):
        low = family.lower()
        yield f"{low}-eps", Case(family, {"layer_norm_eps": 1e-2})
        yield f"{low}-whole-heads", Case(family, partly(PLAIN_ROPE, 1.0))
        yield f"{low}-yarn", Case(family, partly({"rope_parameters": YARN}, 0.5))
        if family != "Phi":
            yield f"{low}-other-order", Case(family, {"use_parallel_residual": family != "GPTNeoX"})
        if family != "GPTNeoX":
            yield f"{low}-head-norms", Case(family, {"qk_layernorm": True})
    yield "stablelm-biases", Case("StableLm", {"use_qkv_bias": True})
    yield "gptneox-no-biases", Case("GPTNeoX", {"attention_bias": False})
    first = {"rope_parameters": None, "rotary_pct": 1.0, "rotary_emb_base": 500}
    yield "gptneox-older-keys", Case("GPTNeoX", stray=first)
    for family in ("Cohere", "Cohere2"):
        low = family.lower()
        yield f"{low}-eps", Case(family, {"layer_norm_eps": 1e-2})
        yield f"{low}-biases", Case(family, {"attention_bias": True})
        yield f"{low}-scale", Case(family, {"logit_scale": 1.5})
        yield f"{low}-yarn", Case(family, {"rope_parameters": YARN})
    yield "cohere-head-norms", Case("Cohere", {"use_qk_norm": True})
    yield "cohere2-full", Case("Cohere2", {"layer_types": ["full_attention"] * 4})
    yield "cohere2-wide-window", Case("Cohere2", {"sliding_window": 300})
    yield "apertus-biases", Case("Apertus", {"attention_bias": True})
    yield "apertus-silu", Case("Apertus", {"hidden_act": "silu"})
    yield "apertus-eps", Case("Apertus", {"rms_norm_eps": 1e-2, **LLAMA3})
    yield "helium-biases", Case("Helium", {"attention_bias": True, "mlp_bias": True})
    yield "apertus-yarn", Case("Apertus", {"rope_parameters": YARN})
    yield "helium-yarn", Case("Helium", {"rope_parameters": YARN})
    yield from _convolved()
    yield "granite-biases", Case("Granite", {"attention_bias": True, "mlp_bias": True})
    yield (
        "granite-plain",
        Case(
            "Granite",
            {
                "logits_scaling": 1.0,
                "embedding_multiplier": 1.0,
                "residual_multiplier": 1.0,
                "attention_multiplier": 1.0,
            },
        ),
    )


def _convolved() -> Iterator[tuple[str, Case]]:
    """LFM2's own options, and its configuration as its first checkpoints have it."""
    yield "lfm2-epsilon", Case("Lfm2", {"norm_eps": 1e-2})
    yield "lfm2-biases", Case("Lfm2", {"conv_bias": True})
    for reach in (2, 5):
        yield f"lfm2-reach-{reach}", Case("Lfm2", {"conv_L_cache": reach, "conv_bias": True})
    yield "lfm2-plain-width", Case("Lfm2", {"block_auto_adjust_ff_dim": False})
    wider = {"block_ffn_dim_multiplier": 1.3, "block_multiple_of": 16}
    yield "lfm2-wider", Case("Lfm2", wider)
    full, conv = "full_attention", "conv"
    yield "lfm2-attends-first", Case("Lfm2", {"layer_types": [full, conv, conv, full]})
    yield "lfm2-attends-only", Case("Lfm2", {"layer_types": [full] * 4})
    for scaling in ("linear", "llama3", "yarn"):
        rotary = {"linear": LINEAR, "llama3": LLAMA3, "yarn": {"rope_parameters": YARN}}[scaling]
        yield f"lfm2-{scaling}", Case("Lfm2", rotary)
    older = {"full_attn_idxs": [1, 3], "block_ff_dim": 160, "tie_embedding": True}
    left_over = {"rope_theta": 777.0, "theta": 5.0, "num_heads": 2, "conv_dim": 8, "block_dim": 8}
    yield (
        "lfm2-older-keys",
        Case(
            "Lfm2",
            {
                "layer_types": None,
                "full_attn_idxs": [1, 3],
                "rope_parameters": {"rope_type": "default", "rope_theta": 777.0},
            },
            {**older, **left_over},
            ("layer_types", "intermediate_size", "tie_word_embeddings", "rope_parameters"),
        ),
    )


CASES: Mapping[str, Case] = dict(_all())
_SHARED = (
    *("own-head", "all-kv-heads", "bfloat16", "float16-shards", "no-ids", "theta"),
    *("vocab-is-inner", "vocab-is-hidden", "wide-head"),
)
"""What goes through the same code whatever the family."""
_WHOLLY = ("Llama", "Gemma3", "Phi3", "Olmo3")
"""Families that are tried with all of that every time: of the builder's classes, and of ours."""
_BRIEFLY = ("Phi", "GPTNeoX", "Cohere", "Cohere2", "Apertus", "Helium", "Ministral3", "Lfm2")
_GENERAL = (
    *("tied", "strays", "one-kv-head", "narrow", "-eps", "whole-heads"),
    *("-linear", "-llama3", "-yarn"),
)
"""Families that share their code with one that is tried wholly, and options they are not tried with each time."""
CHOSEN: Mapping[str, Case] = {
    name: case
    for name, case in CASES.items()
    if os.environ.get("EDGEPEFT_MATRIX") in ("all", "record")
    or case.family in _WHOLLY
    or not name.endswith((*_SHARED, *(_GENERAL if case.family in _BRIEFLY else ())))
}
"""What is carried: all of them where EDGEPEFT_MATRIX says so, as ``make architectures`` does."""


def write_case(case: Case, folder: Path, *, seed: int = 0) -> Path:
    """Save the model of a case with its tokenizer into ``folder``, and return the folder."""
    import torch
    import transformers

    tokenizer = build_tokenizer()
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(token)
        for name, token in (("bos", BOS), ("eos", EOS), ("pad", PAD))
    }
    kind = "Gemma3Text" if case.family == "Gemma3" else case.family
    # transformers fills in what a configuration's dictionaries leave out, in place.
    said = copy.deepcopy({**COMMON, **ids, **_OWN[case.family], **case.config})
    config = getattr(transformers, f"{kind}Config")(**said)
    if case.own_head:
        config.tie_word_embeddings = False
    model = getattr(transformers, f"{case.family}ForCausalLM")(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator) * 0.08
            scale = "norm" in name and name.endswith("weight")
            around_one = scale and not case.family.startswith("Gemma")
            parameter.copy_(noise + (1.0 if around_one else 0.0))
    model = model.to(getattr(torch, case.dtype)).eval()
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    limit = "5GB" if case.shards == 1 else -(-size * 11 // (10 * case.shards))
    model.save_pretrained(folder, max_shard_size=limit)
    tokenizer.save_pretrained(folder)
    path = folder / "config.json"
    written = json.loads(path.read_text())
    if case.own_head:
        written["tie_word_embeddings"] = True
    written = {key: value for key, value in written.items() if key not in case.without}
    path.write_text(json.dumps({**written, **case.stray}))
    return folder
