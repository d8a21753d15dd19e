"""What a model's headers contradict, told before any library that could load it is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgepeft.errors import InputError
from edgepeft.models.info import ModelInfo
from edgepeft.models.safetensors_header import FLOATS
from edgepeft.models.tasks import GENERATION, OF_WHOLE_TEXTS, Task, head_of, outputs_of_head

_LAYER = re.compile(r"(?:^|\.)(?:layers|layer|blk|h)\.(\d+)\.")
_EMBEDDING = re.compile(
    r"(?:^|\.)(?:embed_tokens|embed_in|word_embeddings|tok_embeddings|token_embd)\.weight$"
)
_COUNTS = re.compile(
    r"(?:^|\.)(?:position_ids|token_type_ids|(?:attn|attention)\.(?:masked_)?bias)$"
)
HEAD_MULTIPLE = 16
"""What the attention operator of onnxruntime (GroupQueryAttention) asks of an attention head's size where it
rotates positions itself, as every decoder's graph has it; measured with onnxruntime 1.31."""


def check_headers(model: ModelInfo) -> None:
    """Hold the tensors that a model stores against its configuration.

    Raises InputError for layers that are missing or left over, embeddings of another size, tensors that hold
    nothing or no floating-point values. The base stage compares every name and shape.
    """
    _check_layers(model)
    for name, tensor in model.tensors.items():
        if 0 in tensor.shape:
            raise InputError(f"{model.path}: {name} is {tensor.shape}, which holds nothing")
        rounded = model.rounded is not None and name in model.rounded.weights
        if (
            model.kind == "folder"
            and tensor.dtype not in FLOATS
            and not rounded
            and not _COUNTS.search(name)
        ):
            raise InputError(
                f"{model.path}: {name} is {tensor.dtype}, and a weight is floating; start from the "
                "full-precision checkpoint"
            )
        if _EMBEDDING.search(name):
            wanted = (model.vocab_size, model.embedding_size)
            if tensor.shape != wanted:
                raise InputError(
                    f"{model.path}: {name} is {tensor.shape}, and its configuration calls for {wanted}"
                )


def _check_layers(model: ModelInfo) -> None:
    found: dict[int, list[str]] = {}
    for name in model.tensors:
        match = _LAYER.search(name)
        if match is not None:
            found.setdefault(int(match[1]), []).append(name)
    if not found:
        return
    absent = next(
        (layer for layer in range(min(model.layers, max(found) + 2)) if layer not in found), None
    )
    if absent is not None:
        raise InputError(
            f"{model.path}: lacks the tensors of layer {absent}, and its configuration counts {model.layers} "
            "layers"
        )
    further = _further_layers(model.config)
    beyond = [
        name for layer, names in found.items() if layer >= model.layers + further for name in names
    ]
    if beyond:
        raise InputError(
            f"{model.path}: holds {beyond[0]}, which a model of {model.layers} layers does not use "
            f"({len(beyond)} such tensors); num_hidden_layers is too small, or the file another model's"
        )


def _further_layers(config: Mapping[str, Any]) -> int:
    """Layers behind the last that predict further tokens, as a configuration counts them."""
    count = config.get("num_nextn_predict_layers")
    return count if type(count) is int and 0 < count < 16 else 0


def check_head_size(model: ModelInfo) -> None:
    """Raise InputError where a decoder's attention heads have a size that the runtime's operator does not
    take."""
    if model.head_size is not None and model.head_size % HEAD_MULTIPLE:
        raise InputError(
            f"model: {model.architecture}: its attention head size is {model.head_size}, and onnxruntime's "
            f"attention takes multiples of {HEAD_MULTIPLE}"
        )


def check_label_head(model: ModelInfo, task: Task) -> None:
    """Raise InputError where a classifier's head gives several numbers that are no choice among labels."""
    if task not in OF_WHOLE_TEXTS or head_of(model.architecture) == GENERATION:
        return
    count = outputs_of_head(model.config)
    if model.config.get("problem_type") == "regression" and count > 1:
        raise InputError(
            f"model: {model.path}: problem_type: regression: its head gives {count} numbers, and only one (a "
            "score) is supported"
        )


def not_calibrated_because(model: ModelInfo) -> str | None:
    """Why calibration can't follow a model layer by layer, or None where it can."""
    kind = model.config.get("model_type")
    if kind == "albert":
        return "its layers share their weights"
    if kind == "deberta-v2" and model.config.get("conv_kernel_size"):
        return "it convolves between its layers"
    return None
