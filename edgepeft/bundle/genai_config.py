"""genai_config.json, which onnxruntime-genai reads by itself and obeys: refused unless all of it is known.

The keys are those that onnxruntime-genai 0.18 takes for a decoder (its ``src/config.cpp``) less all that name
further files or change how it decodes: adapters, drafts, processors and encoders beside the decoder, shared
initializers, a folder for the tokenizer, pipelines, engines, custom operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepeft.bundle.files import AGAIN, DISTRUST, read_json
from edgepeft.bundle.session_options import SESSION_OPTIONS
from edgepeft.bundle.shape import (
    FLAG,
    NULL,
    Items,
    Keys,
    Leaf,
    Shape,
    either,
    number,
    one_of,
    problem,
    text,
    whole,
)
from edgepeft.errors import InputError

GENAI_CONFIG = "genai_config.json"

_MOST_CONTEXT = 1 << 26
_TOKEN = whole(-(2**31), 2**31 - 1)
_COUNT = whole(0, 1 << 24)
_TENSOR = text(r"[A-Za-z0-9_./]*(%d)?[A-Za-z0-9_./]*", "a tensor's name")


def _or_null(shape: Leaf) -> Leaf:
    return either(shape, NULL, f"{shape.wanted}, or null")


_INPUTS = (
    *("input_ids", "inputs_embeds", "attention_mask", "position_ids", "past_key_names"),
    *("past_value_names", "past_names", "past_sequence_length", "current_sequence_length"),
    *("total_sequence_length", "past_key_values_length", "past_conv_names", "rnn_states_prev"),
)
_OUTPUTS = (
    *("logits", "present_key_names", "present_value_names", "present_names"),
    *("present_conv_names", "rnn_states", "hidden_states"),
)
_DECODER: Mapping[str, Shape] = {
    "filename": text(r"[^\\:]+", "a file's path below the bundle"),
    "session_options": SESSION_OPTIONS,
    "head_size": _COUNT,
    "hidden_size": _COUNT,
    "num_attention_heads": _COUNT,
    "num_hidden_layers": whole(0, 4096),
    "num_key_value_heads": _COUNT,
    "conv_cache_size": _COUNT,
    "layer_types": Items(one_of("conv", "full_attention", "sliding_attention"), most=4096),
    "inputs": Keys(dict.fromkeys(_INPUTS, _TENSOR)),
    "outputs": Keys(dict.fromkeys(_OUTPUTS, _TENSOR)),
    "sliding_window": Keys(
        {
            "window_size": whole(1, _MOST_CONTEXT),
            "pad_value": _TOKEN,
            "alignment": one_of("left", "right"),
            "slide_key_value_cache": FLAG,
            "slide_inputs": FLAG,
            "cache_slack": whole(0, 65_536),
            "layers": Items(whole(0, 4095), most=4096),
        }
    ),
}
_MODEL: Mapping[str, Shape] = {
    "type": text(r"[a-z0-9_.-]+", "the name of an architecture", 64),
    "bos_token_id": _or_null(_TOKEN),
    "eos_token_id": either(_TOKEN, Items(_TOKEN, most=256), "a token id or a list of them"),
    "pad_token_id": _or_null(_TOKEN),
    **dict.fromkeys(("sep_token_id", "decoder_start_token_id"), _TOKEN),
    **dict.fromkeys(("bot_token_id", "eot_token_id", "bor_token_id", "eor_token_id"), _TOKEN),
    "image_token_id": _TOKEN,
    "context_length": whole(1, _MOST_CONTEXT),
    "vocab_size": whole(1, 1 << 26),
    "decoder": Keys(_DECODER, frozenset({"filename"})),
}
# What is said of searching has no effect here (the runtime sets all of it), and must still be what it ought to
# be for whoever loads the folder without edgepeft.
_SEARCH: Mapping[str, Shape] = {
    **dict.fromkeys(("do_sample", "early_stopping", "past_present_share_buffer"), FLAG),
    **dict.fromkeys(("min_length", "max_length"), whole(0, _MOST_CONTEXT)),
    **dict.fromkeys(("batch_size", "num_beams", "num_return_sequences"), whole(1, 1024)),
    "chunk_size": whole(0, _MOST_CONTEXT),
    "no_repeat_ngram_size": whole(0, 1024),
    "random_seed": _TOKEN,
    "top_k": whole(0, 1 << 26),
    "top_p": number(0, 1),
    "temperature": number(0, 1000),
    "repetition_penalty": number(0, 1000),
    "diversity_penalty": number(-1000, 1000),
    "length_penalty": number(-1000, 1000),
}
_CONFIG = Keys(
    {
        "model": Keys(_MODEL, frozenset({"context_length", "decoder", "vocab_size"})),
        "search": Keys(_SEARCH),
    },
    frozenset({"model"}),
)


def read_genai_config(where: Path) -> dict[str, Any]:
    """The configuration in ``where``. Raises InputError that names the key where it is not on the list."""
    config = read_json(where)
    wrong = problem(config, _CONFIG)
    if wrong is not None:
        mend = AGAIN if " must be " in wrong else DISTRUST
        raise InputError(f"{where}: {wrong}; {mend}")
    return config
