"""A tiny Llama as one GGUF file, whole or with something wrong, for tests of how such files are read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_PARTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def write_tiny_gguf(
    model: Path,
    path: Path,
    *,
    without: Iterable[str] = (),
    more: Mapping[str, Any] | None = None,
    tokens: int | None = None,
) -> Path:
    """Write the tiny Llama of ``tests.tiny`` in the folder ``model`` into ``path``; returns it.

    ``without`` names tensors that are left out, ``more`` arrays that are added or put in a tensor's place;
    ``tokens`` is how many the vocabulary has (default: the model's rows).
    """
    import gguf
    from safetensors.numpy import load_file

    config = json.loads((model / "config.json").read_text())
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    weights = load_file(model / "model.safetensors")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    known = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: int(item[1]))
    texts = [token for token, _ in known]
    count = tokens if tokens is not None else config["vocab_size"]
    texts = [*texts, *(f"<spare {number}>" for number in range(count - len(texts)))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(texts)
    writer.add_token_types([3 if index < 4 else 1 for index in range(len(texts))])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template((model / "chat_template.jinja").read_text())
    names = {"token_embd": "embed_tokens", "output_norm": "norm"}
    for layer in range(config["num_hidden_layers"]):
        names |= {f"blk.{layer}.{own}": f"layers.{layer}.{part}" for own, part in _PARTS.items()}
    arrays = {f"{own}.weight": weights[f"model.{part}.weight"] for own, part in names.items()}
    for name, array in {**arrays, **(more or {})}.items():
        if name not in set(without):
            writer.add_tensor(name, np.ascontiguousarray(array.astype(np.float32)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
