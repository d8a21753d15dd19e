"""A model's modules without its weights: what the names in a checkpoint belong to, at no memory."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from edgepeft.checkpoints.declared_config import keep_declared
from edgepeft.models.inspect import POSITIONS, UNSAID_CONTEXT
from edgepeft.models.tasks import GENERATION, auto_class_name, head_of

HEAD = "lm_head.weight"
"""The head's weight in the checkpoint of every supported model that generates."""
_FINAL_NORMS = ("norm", "final_layernorm", "final_layer_norm", "embedding_norm")
"""What decoders call the norm before the head."""


def build_skeleton(folder: Path, stored: Collection[str] | None = None) -> Any:
    """The transformers model of a checkpoint folder, parameters on the meta device, buffers real.

    ``stored`` are the names of the weights that will fill it: with a head among them the model is not tied,
    whatever its configuration says, and without one it is. None leaves that to the configuration.
    """
    from accelerate import init_empty_weights

    config = model_config(folder)
    config.dtype = torch.float32
    if stored is not None and not is_encoder(config):
        config.tie_word_embeddings = HEAD not in stored
    # Small buffers such as rotary frequencies are computed, not stored, so they must be real.
    with init_empty_weights(include_buffers=False):
        model = auto_class(config).from_config(config, trust_remote_code=False)
    model.tie_weights()
    return model.eval()


def model_config(folder: Path) -> Any:
    """Transformers' configuration of a checkpoint folder, without the keys that its class does not declare.

    Code that lies in the folder is never run.
    """
    from transformers import AutoConfig

    return keep_declared(AutoConfig.from_pretrained(folder, trust_remote_code=False))


def context_length(config: Any) -> int:
    """Tokens that a model with this configuration of transformers reads at most."""
    return int(getattr(config, POSITIONS, UNSAID_CONTEXT))


def auto_class(config: Any) -> Any:
    """Transformers' class that loads a checkpoint with this configuration."""
    import transformers

    return getattr(transformers, auto_class_name((config.architectures or ["ForCausalLM"])[0]))


def is_encoder(config: Any) -> bool:
    """Whether a checkpoint with this configuration reads a text and generates none."""
    return head_of((config.architectures or ["ForCausalLM"])[0]) != GENERATION


def is_decoder(model: Any) -> bool:
    """Whether the body of a model is a decoder's, whatever its head."""
    return hasattr(model.base_model, "embed_tokens") or hasattr(model.base_model, "embed_in")


def final_norm(body: Any) -> Any:
    """The norm between a decoder's last layer and its head; ``body`` is the model without the latter."""
    return next(getattr(body, name) for name in _FINAL_NORMS if hasattr(body, name))


def linear_weight_names(model: Any) -> list[str]:
    """Names of the weights of every linear layer below the head, in module order."""
    head = model.get_output_embeddings()
    outside = head_modules(model)
    return [
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and module is not head
        and name.partition(".")[0] not in outside
    ]


def head_modules(model: Any) -> tuple[str, ...]:
    """Top-level modules of an encoder that are its head: they are trained whole and stay in floating point.

    Of a bare encoder that is the pooler, which an embedding of all tokens does not use.
    """
    if not is_encoder(model.config):
        return ()
    prefix = model.base_model_prefix
    body = getattr(model, prefix, None)
    if body is None:
        return tuple(name for name, _ in model.named_children() if name == "pooler")
    children = [pair for pair in model.named_children() if pair[0] != prefix]
    return tuple(name for name, module in children if any(True for _ in module.parameters()))


def head_and_embedding_names(model: Any) -> tuple[str, str]:
    """Names of the head's and the embedding's weight; the same name twice where they are tied.

    An encoder has no head over its vocabulary, so its embedding stands for both.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    names = {id(module): name for name, module in model.named_modules()}
    embedding_name = f"{names[id(embedding)]}.weight"
    if head is None or head.weight is embedding.weight:
        return embedding_name, embedding_name
    return f"{names[id(head)]}.weight", embedding_name
