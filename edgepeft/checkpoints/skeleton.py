"""A model's modules without its weights: what the names in a checkpoint belong to, at no memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def build_skeleton(folder: Path) -> Any:
    """The transformers model of a checkpoint folder, parameters on the meta device, buffers real.

    Code from the folder is never run (``trust_remote_code`` stays off).
    """
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    config.dtype = torch.float32
    # Small buffers such as rotary frequencies are computed, not stored, so they must be real.
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    model.tie_weights()
    return model.eval()


def linear_weight_names(model: Any) -> list[str]:
    """Names of the weights of every linear layer below the head, in module order."""
    head = model.get_output_embeddings()
    return [
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    ]


def head_and_embedding_names(model: Any) -> tuple[str, str]:
    """Names of the head's and the embedding's weight; the same name twice where they are tied."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    names = {id(module): name for name, module in model.named_modules()}
    embedding_name = f"{names[id(embedding)]}.weight"
    if head.weight is embedding.weight or model.config.tie_word_embeddings:
        return embedding_name, embedding_name
    return f"{names[id(head)]}.weight", embedding_name
