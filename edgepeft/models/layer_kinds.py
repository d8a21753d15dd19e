"""The kinds of a decoder's layers, as its configuration has them: in a list, or in a way of its family's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CONVOLUTION = "conv"
"""A layer that sees each channel's last few tokens, and keeps a state of them in the place of keys and values."""
ATTENTION = "full_attention"


def layer_kinds(config: Mapping[str, Any]) -> list[str]:
    """The kind of each layer; ``config`` is what ``config.json`` holds. A configuration that is silent means
    attention.
    """
    listed = config.get("layer_types")
    if isinstance(listed, (list, tuple)):
        return [str(kind) for kind in listed]
    count = config.get("num_hidden_layers")
    layers = range(count if isinstance(count, int) else 0)
    attending = config.get("full_attn_idxs") if config.get("model_type") == "lfm2" else None
    if not isinstance(attending, (list, tuple)):
        return [ATTENTION for _ in layers]
    return [ATTENTION if index in attending else CONVOLUTION for index in layers]


def keeps_states(config: Mapping[str, Any]) -> bool:
    """Whether some layers of a model keep a state that can't be taken back to an earlier token."""
    return CONVOLUTION in layer_kinds(config)
