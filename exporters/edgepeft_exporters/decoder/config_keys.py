"""What a decoder's configuration may say: the keys that the graph honours, and those it would pass over.

Every key that transformers declares for a supported architecture stands in one of these tables, so that a new one
fails a test until someone has looked at it. Keys that a class does not declare never reach the graph builder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepeft.models.layer_kinds import ATTENTION, CONVOLUTION, layer_kinds

HONOURED = frozenset(
    {
        *("architectures", "dtype", "vocab_size", "hidden_size", "intermediate_size"),
        *("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
        *("hidden_act", "hidden_activation", "max_position_embeddings", "rms_norm_eps"),
        *("tie_word_embeddings", "rope_parameters", "attention_bias", "mlp_bias", "use_bias"),
        *("bos_token_id", "eos_token_id", "pad_token_id"),
        *("sliding_window", "use_sliding_window", "max_window_layers", "layer_types"),
        *("query_pre_attn_scalar", "final_logit_softcapping"),
        "original_max_position_embeddings",
        *("no_rope_layers", "no_rope_layer_interval"),
        *("embedding_multiplier", "logits_scaling", "residual_multiplier", "attention_multiplier"),
        *("norm_eps", "norm_epsilon", "attention_out_bias", "shared_intermediate_size"),
        *("layer_norm_eps", "use_parallel_residual", "use_qkv_bias", "qk_layernorm"),
        *("logit_scale", "use_qk_norm"),
        *("conv_L_cache", "conv_bias", "full_attn_idxs"),
        *("block_auto_adjust_ff_dim", "block_ffn_dim_multiplier", "block_multiple_of"),
    }
)
"""Keys that the graph follows; the architecture matrix of the tests sets each of them."""

SAYS_NOTHING = frozenset(
    {
        *("attention_dropout", "resid_pdrop", "embd_pdrop", "initializer_range", "use_cache"),
        *("pretraining_tp", "transformers_version", "output_hidden_states", "return_dict"),
        *("chunk_size_feed_forward", "is_encoder_decoder", "id2label", "label2id", "problem_type"),
        # HunYuan's end of a document, which generation doesn't stop at.
        "eod_token_id",
        *("residual_dropout", "embedding_dropout", "hidden_dropout", "classifier_dropout"),
        "is_decoder",
        # What EXAONE makes its kinds of layers of, where it doesn't list them.
        "sliding_window_pattern",
        # Of experts and of recurrent layers, of which a dense Granite 4 has none.
        *("num_experts_per_tok", "output_router_logits", "router_aux_loss_coef"),
        *("layers_block_type", "mamba_n_heads", "mamba_n_groups", "mamba_d_state", "mamba_d_head"),
        *("mamba_d_conv", "mamba_expand", "mamba_chunk_size", "mamba_conv_bias"),
        *("mamba_proj_bias", "time_step_limit"),
    }
)
"""Keys of training, of other tasks and of transformers' own bookkeeping."""

ONLY_AT: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "": {
        "is_causal": (True,),
        "per_layer_config": (None,),
    },
    "GemmaForCausalLM": {"use_bidirectional_attention": (None, False)},
    "Gemma2ForCausalLM": {"use_bidirectional_attention": (None, False)},
    "GraniteMoeHybridForCausalLM": {
        "num_local_experts": (0,),
        "position_embedding_type": ("rope",),
    },
    "Gemma3ForCausalLM": {
        "use_bidirectional_attention": (None, False),
        "attn_logit_softcapping": (None,),
    },
}
"""Keys that transformers obeys and the graph builder does not, by architecture ("" is for all), with the values
at which they change nothing.
"""

_UNSAID: Mapping[str, Any] = {"position_embedding_type": None, "num_local_experts": 8}
"""What a configuration means by leaving out a key, where that is not the first value above."""

HONOURED_BY: Mapping[str, tuple[str, ...]] = {"attn_logit_softcapping": ("Gemma2ForCausalLM",)}
"""Keys that the graph follows for some architectures alone."""

ACTIVATIONS = (
    *("silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"),
    *("relu", "relu2"),
)
"""transformers' names of the activations that the graph builder has."""
OWN_ACTIVATIONS: Mapping[str, tuple[str, ...]] = {"ApertusForCausalLM": ("xielu",)}
"""Those that a graph of ours has besides, by architecture."""
_SHARED_WIDTH = ("StableLmForCausalLM", "GPTNeoXForCausalLM", "HeliumForCausalLM")
"""Architectures whose heads are as wide together as the stream."""

_KINDS = ("full_attention", "sliding_attention", "attention")
"""Kinds of layers that a graph may have."""
_CONVOLVED: Mapping[str, tuple[str, ...]] = {"Lfm2ForCausalLM": (ATTENTION, CONVOLUTION)}
"""Architectures with layers of convolutions, and the kinds that they may have."""
_HIDDEN_ACTIVATION = ("Gemma2ForCausalLM", "Gemma3ForCausalLM")
"""Architectures that call their activation so; the others have ``hidden_act``."""


def refused_key(architecture: str, config: Mapping[str, Any]) -> str | None:
    """The first key of a configuration that the graph would not follow, and why, in one line; None for none."""
    for key, allowed in {**ONLY_AT[""], **ONLY_AT.get(architecture, {})}.items():
        value = config.get(key, _UNSAID.get(key, allowed[0]))
        if value not in allowed:
            return f"{key}: {value} is not supported for {architecture}"
    for key in ("hidden_act", "hidden_activation"):
        value = config.get(key)
        # The activation that a class does not declare is another family's, and is not read.
        known = (*ACTIVATIONS, *OWN_ACTIVATIONS.get(architecture, ()))
        if value is not None and value not in known and _declares(architecture, key):
            return f"{key}: {value} is not supported; these are: {', '.join(known)}"
    listed = config.get("layer_types") or config.get("layers_block_type")
    kinds = listed or layer_kinds(config)
    others = sorted({str(kind) for kind in kinds} - set(_CONVOLVED.get(architecture, _KINDS)))
    if others:
        return f"layer_types: {', '.join(others)} layers are not supported yet"
    if architecture in _CONVOLVED and (refused := _refused_layers(config)) is not None:
        return refused
    window = config.get("sliding_window")
    if isinstance(window, int) and window < 1:
        return f"sliding_window: {window} is not a number of tokens"
    size, heads = config.get("head_dim"), config.get("num_attention_heads")
    width = config.get("hidden_size")
    if size is not None and architecture in _SHARED_WIDTH and [size * heads] != [width]:
        return f"head_dim: {size} is not the hidden_size {width} shared out among {heads} heads"
    return None


def _refused_layers(config: Mapping[str, Any]) -> str | None:
    """What layers of convolutions and of attention together can't be."""
    kinds, layers = layer_kinds(config), config.get("num_hidden_layers")
    if len(kinds) != layers:
        return f"layer_types: has {len(kinds)} kinds, but num_hidden_layers is {layers}"
    if ATTENTION not in kinds:
        return f"layer_types: none is {ATTENTION}, and one or more must be"
    seen = config.get("conv_L_cache", 3)
    if type(seen) is not int or seen < 2:
        return f"conv_L_cache: {seen} is not a number of tokens from 2 on"
    return None


def _declares(architecture: str, key: str) -> bool:
    return (key == "hidden_activation") == (architecture in _HIDDEN_ACTIVATION)
