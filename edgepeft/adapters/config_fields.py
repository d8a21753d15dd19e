"""Every key that PEFT's configurations of the supported methods have, and what becomes of it here.

A key is carried (PEFT's own layers compute by it when the adapter is attached and merged), tells of the training
alone, or changes the model in a way that no bundle has and is refused. A key that is in none of these lists comes
from a newer PEFT or another tool: switched on it may change what the adapter computes, so it is refused; a number
beside a switch that is off changes nothing, and is told of.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepeft.errors import InputError

CARRIED = frozenset(
    {
        *("peft_type", "task_type", "target_modules", "exclude_modules", "target_parameters"),
        *("layers_to_transform", "layers_pattern", "modules_to_save", "trainable_token_indices"),
        *("token_indices", "ensure_weight_tying", "fan_in_fan_out", "bias", "lora_bias"),
        *("r", "init_r", "rank_pattern", "alpha", "lora_alpha", "alpha_pattern", "use_rslora"),
        *("use_dora", "randlora_alpha", "scaling", "delora_lambda", "lambda_pattern", "config_A_B"),
        *("config_C", "config_D_E", "decompose_both", "decompose_factor", "use_effective_conv2d"),
        *("boft_block_num", "boft_block_size", "boft_n_butterfly_factor", "oft_block_size", "coft"),
        *("eps", "block_share", "use_cayley_neumann", "num_cayley_neumann_terms", "apply_GS"),
        *("block_size", "block_size_pattern", "group_size", "variant", "feedforward_modules"),
        *("n_frequency", "n_frequency_pattern", "random_loc_seed", "wavelet_family", "use_idwt"),
        *("proportional_parameters", "num_vectors", "vector_length", "topk", "d_initial", "para"),
        *("save_only_topk_weights", "projection_prng_key", "projection_seed", "save_projection"),
        *("sparse", "very_sparse", "gralora_k", "hybrid_r", "mini_r", "u", "weight_tying"),
        *("decomposition_method", "sample_at_inference", "generator_seed", "init_weights"),
        *("sparsity", "select_top", "save_precomputed_indices", "velora_config"),
        *("num_virtual_tokens", "token_dim", "num_transformer_submodules", "num_attention_heads"),
        *("num_layers", "prefix_projection", "encoder_hidden_size", "encoder_num_layers"),
        *("encoder_reparameterization_type", "bottleneck_size", "placement", "activation"),
    }
)
"""PEFT computes by these; velora_config changes gradients alone, and its factors are plain LoRA."""

OF_TRAINING = frozenset(
    {
        *("inference_mode", "base_model_name_or_path", "revision", "auto_mapping", "peft_version"),
        *("lora_dropout", "boft_dropout", "deft_dropout", "gralora_dropout", "hira_dropout"),
        *("miss_dropout", "module_dropout", "pvera_dropout", "randlora_dropout", "rank_dropout"),
        *("rank_dropout_scale", "tinylora_dropout", "vblora_dropout", "vera_dropout"),
        *("bottleneck_dropout", "encoder_dropout", "init_ia3_weights", "init_logits_std"),
        *("init_scale", "init_v_bound", "init_vector_bank_bound", "init_lora_weights"),
        *("target_r", "beta1", "beta2", "deltaT", "tinit", "tfinal", "total_step"),
        *("orth_reg_weight", "eva_config", "corda_config", "lora_ga_config", "loftq_config"),
        *("prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_kwargs"),
        *("tokenizer_name_or_path", "runtime_config", "megatron_core", "qalora_group_size"),
        *("merge_weights",),
    }
)
"""Dropouts, schedules and starts, which are over; a start that changed the base is looked at by itself."""

BIASES = ("none", "all", "lora_only")
"""Which of the base's biases may have trained with an adapter."""

MORE_THAN_FACTORS = (
    *("use_dora", "lora_bias", "fan_in_fan_out", "layer_replication", "use_qalora"),
    *("alora_invocation_tokens", "arrow_config", "modules_to_save", "trainable_token_indices"),
    "target_parameters",
)
"""Keys that make a LoRA more than ``x A B`` beside a frozen weight, which is all that can be swapped."""

_PLAIN = "train or save it as plain LoRA"
REFUSED: Mapping[str, str] = {
    "layer_replication": "repeats layers of the base, and a bundle keeps the base's own; merge it with PEFT "
    "and hand in the merged model",
    "alora_invocation_tokens": f"an activated LoRA acts on a part of the tokens, and can't be merged; {_PLAIN}",
    "use_qalora": f"pools what a layer reads, which no graph here does; {_PLAIN}",
    "arrow_config": "routes among adapters by its input, and can't be merged; edgepeft combine makes one of "
    "several",
    "megatron_config": f"is for Megatron's parallel layers; {_PLAIN}",
    "use_bdlora": f"block-diagonal factors are not supported yet; {_PLAIN}",
    "kasa_config": f"KaSA takes singular values out of the base, and is not supported yet; {_PLAIN}",
    "monteclora_config": f"MonteCLoRA samples around its factors, and is not supported yet; {_PLAIN}",
    "enable_lora": f"adapts parts of a fused layer, as only old versions of PEFT do; {_PLAIN}",
}
"""Keys that, switched on, are refused; why, and the mend."""

KNOWN = CARRIED | OF_TRAINING | frozenset(REFUSED)
"""All of them."""

_MOST = 1 << 16
SIZES: Mapping[str, int] = {
    **dict.fromkeys(("boft_block_num", "boft_block_size", "boft_n_butterfly_factor"), _MOST),
    **dict.fromkeys(("oft_block_size", "block_size", "group_size", "topk", "u"), _MOST),
    **dict.fromkeys(("num_vectors", "vector_length", "gralora_k", "hybrid_r", "mini_r"), _MOST),
    **dict.fromkeys(("token_dim", "num_layers", "num_attention_heads"), _MOST),
    **dict.fromkeys(("encoder_hidden_size", "encoder_num_layers", "bottleneck_size"), _MOST),
    "num_transformer_submodules": 8,
    "num_cayley_neumann_terms": 64,
    "n_frequency": 1 << 18,
}
"""Numbers that decide how large a tensor or how long a loop is, and the most that is taken."""
_PRODUCT = ("num_vectors", "vector_length", 1 << 26)
ENTRIES = 1 << 16
"""Entries that a list or a mapping may have; an adapter of every expert of a large mixture has some 60,000."""
FEWER: Mapping[str, int] = {
    **dict.fromkeys(("n_frequency_pattern", "block_size_pattern", "modules_to_save"), 500),
    **dict.fromkeys(("rank_pattern", "alpha_pattern", "lambda_pattern"), 4096),
    **dict.fromkeys(("target_parameters", "layers_to_transform", "layers_pattern"), 4096),
}
"""Keys whose entries PEFT compares with every module one by one, and the most of them that are taken."""
_NAMES = ("target_modules", "exclude_modules", "modules_to_save", "target_parameters")


def check_fields(config: Mapping[str, Any], where: Path) -> None:
    """Hold the keys of an ``adapter_config.json`` against the lists above. Raises InputError naming the key."""
    for key, value in config.items():
        if key in REFUSED and value:
            raise InputError(f"{where}: {key}: {REFUSED[key]}")
        if key not in KNOWN and value and (value is True or not isinstance(value, (int, float))):
            raise InputError(
                f"{where}: {key}: not known to this version, and may change what the adapter computes; if it "
                "does not, remove it from the file"
            )
        most = FEWER.get(key, ENTRIES)
        if isinstance(value, (list, dict)) and len(value) > most:
            raise InputError(
                f"{where}: {key}: {len(value)} entries, of which at most {most} are read"
            )
    for key, most in SIZES.items():
        value = config.get(key)
        if isinstance(value, (int, float)) and not -1 <= value <= most:
            raise InputError(f"{where}: {key}: {value} is not from -1 to {most}")
    first, second, most = _PRODUCT
    one, other = config.get(first), config.get(second)
    if type(one) is int and type(other) is int and one * other > most:
        raise InputError(f"{where}: {first} times {second} is more than {most}")
    for key in _NAMES:
        value = config.get(key)
        if isinstance(value, list) and not all(isinstance(one, str) for one in value):
            raise InputError(f"{where}: {key}: must be a list of names or a pattern")


def field_notes(config: Mapping[str, Any]) -> list[str]:
    """What is worth a word in a configuration that ``check_fields`` lets through."""
    strange = sorted(key for key, value in config.items() if key not in KNOWN and value)
    return [f"{', '.join(strange)}: not known here, and passed over"] if strange else []
