"""A model's configuration as the graph builder of onnxruntime-genai reads it.

Written for onnxruntime-genai 0.18 and transformers 5.23. The builder reads rotary settings by the keys that
transformers had before its version 5 (``rope_theta``, ``rope_local_base_freq``, ``type``, ``short_mscale``,
``long_mscale``), and asks ``layer_types`` which layers are windowed; the scale of long rope comes from
transformers' ``ROPE_INIT_FUNCTIONS``. A builder that reads version 5's settings would make this unnecessary.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from edgepeft.errors import EdgepeftError


def flatten_rope(config: Any, *, own_tables: bool) -> None:
    """Turn transformers 5's rotary settings per layer type into the flat ones that the builder reads.

    Raises EdgepeftError for scaled frequencies there, which the builder would apply to every layer alike, unless
    it is given ``own_tables``.
    """
    parameters = getattr(config, "rope_parameters", None)
    if isinstance(parameters, dict) and "rope_type" in parameters:
        # The older key, which Phi-3's builder reads.
        parameters.setdefault("type", parameters["rope_type"])
        if parameters["rope_type"] == "longrope":
            _, scale = ROPE_INIT_FUNCTIONS["longrope"](config, torch.device("cpu"))
            # Left to itself the builder passes over the factors that a configuration gives for it.
            parameters["short_mscale"] = parameters["long_mscale"] = float(scale)
    if not isinstance(parameters, dict) or "full_attention" not in parameters:
        return
    full, local = parameters["full_attention"], parameters.get("sliding_attention", {})
    if full.get("rope_type", "default") != "default" and not own_tables:
        raise EdgepeftError(
            f"{config.architectures[0]}: {full['rope_type']} rotary scaling on some layers only is not "
            "supported by the graph builder"
        )
    config.rope_parameters = dict(full)
    config.rope_theta = full["rope_theta"]
    config.rope_local_base_freq = local.get("rope_theta", full["rope_theta"])


def name_sliding_layers(config: Any) -> None:
    """Mark each layer as windowed where one setting says so for all (Mistral, Phi-3), as the builder asks it."""
    if getattr(config, "sliding_window", None) and getattr(config, "layer_types", None) is None:
        config.layer_types = ["sliding_attention"] * config.num_hidden_layers
