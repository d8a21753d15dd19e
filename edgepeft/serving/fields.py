"""Every field that a request for answers may have: honoured, harmless, or refused by name.

A field that changes an answer and is passed over gives an answer that was not asked for, and nobody sees it. So
what a client sends is honoured (the fields that ``chat`` and ``completions`` declare), or known to change no
answer here (``HARMLESS``), or has a value that asks for nothing (``NEUTRAL``), or is refused. Names and neutral
values are those of OpenAI's API (openai-python 3.57), vLLM's and llama.cpp's servers, and a few that other
clients send; ``tests/serving/request_fields.json`` keeps the lists with their sources. null asks for nothing in
any field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepeft.utils.alike import same_json

HARMLESS = frozenset(
    (
        # Who asks, and how the asker keeps books.
        *("user", "safety_identifier", "metadata", "request_id", "session_id"),
        # Where OpenAI would look for a prompt it has read before, and at what price it answers; caches change
        # no answer.
        *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "cache_salt"),
        *("cache_prompt", "service_tier"),
    )
)
"""Fields that change no answer of this server, whatever their value."""

_OFF = (False,)
_NONE: tuple[Any, ...] = ([], {})
_ZERO = (0,)
_ONE = (1,)

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    # OpenAI's, https://platform.openai.com/docs/api-reference/chat/create
    **dict.fromkeys(("audio", "moderation", "prediction", "web_search_options"), ()),
    "store": _OFF,
    # What tools and tool_choice were before; with none of them there is nothing to call.
    "functions": _NONE,
    "function_call": ("none", "auto"),
    "parse_tool_calls": (True,),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    # Of the older completions, which some clients add.
    **dict.fromkeys(("best_of",), _ONE),
    **dict.fromkeys(("prompt", "suffix"), ()),
    "echo": _OFF,
    # vLLM's, vllm/entrypoints/openai/chat_completion/protocol.py and its older guided decoding.
    **dict.fromkeys(("use_beam_search", "include_stop_str_in_output", "ignore_eos"), _OFF),
    **dict.fromkeys(("continue_final_message", "add_special_tokens", "watermarking"), _OFF),
    **dict.fromkeys(
        ("return_tokens_as_token_ids", "return_token_ids", "return_token_offsets"), _OFF
    ),
    "return_prompt_text": _OFF,
    **dict.fromkeys(("add_generation_prompt", "skip_special_tokens", "return_mm_kwargs"), (True,)),
    **dict.fromkeys(("spaces_between_special_tokens", "include_reasoning"), (True,)),
    **dict.fromkeys(("min_p", "min_tokens", "priority", "routed_experts_prompt_start"), _ZERO),
    **dict.fromkeys(("length_penalty", "stream_interval"), _ONE),
    **dict.fromkeys(("stop_token_ids", "bad_words", "documents", "chat_template_kwargs"), _NONE),
    **dict.fromkeys(("media_io_kwargs", "mm_processor_kwargs", "vllm_xargs"), _NONE),
    **dict.fromkeys(("kv_transfer_params", "ec_transfer_params", "logits_processors"), _NONE),
    **dict.fromkeys(("truncate_prompt_tokens", "truncation_side", "prompt_logprobs"), ()),
    **dict.fromkeys(("logprob_token_ids", "allowed_token_ids", "chat_template"), ()),
    **dict.fromkeys(("structured_outputs", "structural_tag", "repetition_detection"), ()),
    **dict.fromkeys(("guided_json", "guided_regex", "guided_choice", "guided_grammar"), ()),
    **dict.fromkeys(("guided_decoding_backend", "guided_whitespace_pattern"), ()),
    "thinking_token_budget": (),
    # llama.cpp's, tools/server/server-task.cpp and README.md
    **dict.fromkeys(("dynatemp_range", "xtc_probability", "dry_multiplier", "mirostat"), _ZERO),
    **dict.fromkeys(
        ("n_probs", "n_indent", "n_keep", "n_discard", "n_cache_reuse", "min_keep"), _ZERO
    ),
    **dict.fromkeys(("typical_p", "repeat_penalty", "dynatemp_exponent", "n_cmpl"), _ONE),
    **dict.fromkeys(("xtc_threshold", "dry_base", "dry_allowed_length", "dry_penalty_last_n"), ()),
    **dict.fromkeys(("dry_sequence_breakers", "mirostat_tau", "mirostat_eta", "repeat_last_n"), ()),
    **dict.fromkeys(("top_n_sigma", "n_predict", "id_slot", "t_max_predict_ms"), (-1,)),
    **dict.fromkeys(("adaptive_target", "adaptive_decay", "backend_sampling", "samplers"), ()),
    **dict.fromkeys(("grammar", "json_schema", "chat_format", "chat_parser"), ()),
    **dict.fromkeys(("grammar_triggers", "preserved_tokens", "response_fields", "lora"), _NONE),
    **dict.fromkeys(
        ("grammar_lazy", "return_tokens", "return_progress", "timings_per_token"), _OFF
    ),
    **dict.fromkeys(("post_sampling_probs", "thinking_forced_open"), _OFF),
    "reasoning_format": ("none", "auto"),
    "reasoning_budget_tokens": (-1,),
    **dict.fromkeys(("reasoning_budget_start_tag", "reasoning_budget_end_tag"), ()),
    "reasoning_budget_message": (),
    "reasoning_budget_arm_immediately": _OFF,
    **dict.fromkeys(("speculative.n_min", "speculative.n_max", "speculative.p_min"), ()),
    **dict.fromkeys(
        ("speculative.type", "speculative.ngram_size_n", "speculative.ngram_size_m"), ()
    ),
    "speculative.ngram_m_hits": (),
    # Others' clients: Ollama, Anthropic, OpenRouter, text-generation-inference.
    **dict.fromkeys(("options", "format", "think", "thinking", "keep_alive", "reasoning"), ()),
    **dict.fromkeys(("system", "stop_sequences", "top_a", "tfs_z", "extra_body"), ()),
    **dict.fromkeys(("models", "provider", "route", "transforms", "plugins"), ()),
}
"""Fields that would change an answer and are not supported, with the values that ask for nothing."""

COMPLETION_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    **NEUTRAL,
    "tools": _NONE,
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    **dict.fromkeys(("messages", "max_completion_tokens"), ()),
    "top_logprobs": _ZERO,
    # What bounds the answers of a conversation; text as it stands is bounded by nothing.
    "response_format": ({"type": "text"},),
}
"""The same for the older completions, which have a prompt where a chat has messages."""

_OF_TEXTS: Mapping[str, tuple[Any, ...]] = {
    # vLLM's, vllm/entrypoints/pooling
    **dict.fromkeys(("truncate_prompt_tokens", "truncation_side", "additional_data"), ()),
    **dict.fromkeys(("mm_processor_kwargs", "media_io_kwargs"), _NONE),
    **dict.fromkeys(("use_activation", "add_special_tokens", "normalize"), (True,)),
    "priority": _ZERO,
    # text-embeddings-inference's, Voyage's
    "truncation": _OFF,
    "truncation_direction": ("right", "Right"),
}
EMBEDDING_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    **_OF_TEXTS,
    # vLLM's
    **dict.fromkeys(("messages", "chat_template"), ()),
    "embed_dtype": ("float32",),
    "endianness": ("native", "little"),
    # Jina's, Voyage's, Cohere's, text-embeddings-inference's: a model's own prompts are none of a bundle's.
    **dict.fromkeys(("task", "input_type", "prompt_name", "output_dimension"), ()),
    "normalized": (True,),
    "late_chunking": _OFF,
    **dict.fromkeys(("embedding_type", "output_dtype"), ("float",)),
    "embedding_types": (["float"],),
}
"""The same for embeddings."""

RERANK_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    **_OF_TEXTS,
    # Cohere's, Jina's, Voyage's, text-embeddings-inference's
    **dict.fromkeys(("max_tokens_per_doc", "max_chunks_per_doc", "rank_fields", "top_k"), ()),
    **dict.fromkeys(("return_embeddings", "raw_scores", "return_text"), _OFF),
    "texts": (),
}
"""The same for rankings."""

TEXTS_HARMLESS = frozenset(("user", "request_id", "cache_salt"))
"""Fields of both that change no answer."""

MESSAGE_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    # A template would show them, or not; an answer must not hang on what is dropped in silence.
    **dict.fromkeys(("name", "audio", "function_call", "tool_call_id", "id"), ()),
    "tool_calls": _NONE,
    **dict.fromkeys(("annotations", "reasoning_details", "citations"), _NONE),
    **dict.fromkeys(("refusal", "reasoning", "reasoning_content", "thinking"), ("",)),
    "prefix": _OFF,
    "weight": _ONE,
}
"""The same for the fields of a message, beside ``role`` and ``content`` and what its role honours."""

CALL_NEUTRAL: Mapping[str, tuple[Any, ...]] = {"index": tuple(range(128)), "extra_content": _NONE}
FUNCTION_NEUTRAL: Mapping[str, tuple[Any, ...]] = {"parsed_arguments": ()}
"""The same for a call in a message, and for what it calls."""

PART_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "annotations": _NONE,
    **dict.fromkeys(("cache_control", "prompt_cache_breakpoint"), ()),
}
"""The same for the fields of a part of a message's content, beside ``type`` and ``text``."""

PARTS = ("text",)
"""The kinds of parts of a message's content that are read; several are joined as they stand."""

STREAM_NEUTRAL: Mapping[str, tuple[Any, ...]] = dict.fromkeys(
    ("include_obfuscation", "continuous_usage_stats"), _OFF
)
"""The same for ``stream_options``, beside ``include_usage``."""


def objection(
    sent: Mapping[str, Any],
    honoured: Sequence[str],
    neutral: Mapping[str, tuple[Any, ...]],
    harmless: frozenset[str] = frozenset(),
) -> tuple[str, str] | None:
    """The first field of ``sent`` that is neither honoured nor asks for nothing, and what to say of it."""
    for name, value in sent.items():
        if name in honoured or name in harmless or (value is None and name in neutral):
            continue
        if name not in neutral:
            return name, "is not a field that this server knows; leave it out"
        if not any(same_json(value, wanted) for wanted in neutral[name]):
            return (
                name,
                "is not supported by this server, and would change the answer; leave it out",
            )
    return None
