"""A checkpoint's configuration as its own class declares it.

``config.json`` may hold keys that the model's class never reads: left over from another family, or from a tool.
transformers keeps them as attributes, and whoever looks for an attribute by name, as graph builders do, would
obey them. Here they are taken off, so that what is built follows what transformers computes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from edgepeft.compat.transformers_rotary_keys import rotary_keys

READ_UNDECLARED = frozenset({"head_dim"})
"""Attributes that transformers' modeling code asks for by name where a class does not declare them."""
_READ_OF_DEBERTA = frozenset({"pooler_hidden_size", "embedding_size", "cls_dropout"})
READ_OF_THE_MODEL = {
    "deberta": _READ_OF_DEBERTA | {"talking_head"},
    "deberta-v2": _READ_OF_DEBERTA
    | {"attention_head_size", "share_att_key", "position_buckets", "norm_rel_ebd"}
    | {"conv_kernel_size", "conv_groups", "conv_act"},
}
"""The same of one type of model alone."""

_OF_THE_FILE = frozenset({"architectures", "model_type", "quantization_config"})
_UNSCALED = frozenset({"rope_type", "rope_theta", "partial_rotary_factor"})
"""What transformers reads of rotary settings that scale nothing."""
_OF_THE_MODEL = {
    "hunyuan_v1_dense": frozenset({"alpha"}),
    "ministral3": frozenset({"llama_4_scaling_beta"}),
}
"""What a model's own code reads of them, by its type: HunYuan stretches the base of its frequencies, Ministral 3
the queries of a long text.
"""


def keep_declared(config: Any) -> Any:
    """Take off what a transformers configuration holds beyond its class's fields; returns it.

    Rotary settings keep the keys that transformers knows of, for one kind of layer or for each.
    """
    own = READ_OF_THE_MODEL.get(config.model_type, frozenset())
    kept = declared_keys(type(config)) | READ_UNDECLARED | own | _OF_THE_FILE
    for name in [name for name in vars(config) if not name.startswith("_")]:
        if name not in kept:
            delattr(config, name)
    rotary = getattr(config, "rope_parameters", None)
    if isinstance(rotary, dict):
        own = _OF_THE_MODEL.get(config.model_type, frozenset())
        by_layer = {key: value for key, value in rotary.items() if isinstance(value, dict)}
        config.rope_parameters = (
            {key: _known_rotary(value, own) for key, value in by_layer.items()}
            if by_layer
            else _known_rotary(rotary, own)
        )
    return config


def _known_rotary(settings: dict[str, Any], own: frozenset[str]) -> dict[str, Any]:
    scales = settings.get("rope_type", "default") != "default"
    known = rotary_keys() | own if scales else _UNSCALED
    return {key: value for key, value in settings.items() if key in known}


def declared_keys(kind: type) -> set[str]:
    """The keys of ``config.json`` that a transformers configuration class declares, other names for them too."""
    return {field.name for field in dataclasses.fields(kind)} | set(
        getattr(kind, "attribute_map", {})
    )
