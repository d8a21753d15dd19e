"""A merged checkpoint as a GGUF file, for comparisons with llama.cpp on the same weights.

It holds weights and shapes but no vocabulary: whoever compares asks both sides with token ids. Key names and the
order of Q and K rows follow the format's description and llama.cpp's reader:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.errors import InputError

_PAIRED_ROTARY = {"LlamaForCausalLM": "LLAMA", "MistralForCausalLM": "LLAMA"}
"""Architectures whose rotary pairs llama.cpp wants side by side, unlike transformers."""

_ARCHITECTURES = {**_PAIRED_ROTARY, "Qwen2ForCausalLM": "QWEN2", "Qwen3ForCausalLM": "QWEN3"}


def write_gguf(checkpoint: Path, out: Path) -> None:
    """Write a checkpoint folder's weights as float32 into the GGUF file ``out``, one tensor at a time.

    Raises InputError for an architecture, or rotary settings, that are not known here.
    """
    import gguf

    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    source = SafetensorsSource.from_folder(checkpoint)
    (name,) = config["architectures"]
    if name not in _ARCHITECTURES:
        known = ", ".join(known.removesuffix("ForCausalLM") for known in _ARCHITECTURES)
        raise InputError(f"{checkpoint}: {name} is not written as GGUF; known: {known}")
    architecture = gguf.MODEL_ARCH[_ARCHITECTURES[name]]
    layers = int(config["num_hidden_layers"])
    names = gguf.get_tensor_name_map(architecture, layers)
    writer = gguf.GGUFWriter(out, gguf.MODEL_ARCH_NAMES[architecture])
    _describe(writer, config, checkpoint)
    for key, spec in source.specs.items():
        written = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if written is None:
            raise InputError(f"{checkpoint}: {key} has no place in a GGUF file of {name}")
        shape = tuple(spec.shape)
        writer.add_tensor_info(
            written, shape, torch.empty(0).numpy().dtype, 4 * torch.Size(shape).numel()
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for key in source.specs:
        tensor = source.load(key).to(torch.float32)
        if name in _PAIRED_ROTARY and ".q_proj." in key:
            tensor = _paired(tensor, int(config["num_attention_heads"]))
        elif name in _PAIRED_ROTARY and ".k_proj." in key:
            tensor = _paired(tensor, _key_heads(config))
        writer.write_tensor_data(tensor.contiguous().numpy())
    writer.close()


def _describe(writer: Any, config: Mapping[str, Any], checkpoint: Path) -> None:
    """The metadata that llama.cpp builds its graph from."""
    import gguf

    rotary = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rotary.get("rope_type") or rotary.get("type") or "default"
    if kind != "default" or config.get("sliding_window"):
        what = "a sliding window" if kind == "default" else f"rotary scaling {kind}"
        raise InputError(f"{checkpoint}: a model with {what} is not written as GGUF")
    heads = int(config["num_attention_heads"])
    size = int(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(_key_heads(config))
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(float(rotary.get("rope_theta") or config.get("rope_theta") or 1e4))
    writer.add_vocab_size(int(config["vocab_size"]))
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _key_heads(config: Mapping[str, Any]) -> int:
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def _paired(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of each head with the two of a rotary pair side by side instead of half a head apart."""
    halves = tensor.reshape(heads, 2, -1, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)
