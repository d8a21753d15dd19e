"""Decoder language models, through onnxruntime-genai's model builder used as a library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgepeft.checkpoints.rotary import rotary_switch
from edgepeft.errors import nearest
from edgepeft.models import ModelInfo
from edgepeft.models.checks import HEAD_MULTIPLE
from edgepeft.models.text_part import ALONE, LARGER
from edgepeft.targets import ProvenModel
from edgepeft_exporters.decoder.config_keys import refused_key
from edgepeft_exporters.decoder.sources import SOURCES, STATIC, rotary_settings
from edgepeft_exporters.proven import proven

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


@dataclass(frozen=True)
class DecoderExporter:
    """Says which models this exporter takes; the work is in ``stage``."""

    name: str = "decoder"
    stage: str = "edgepeft_exporters.decoder.stage:run"

    def proven(self) -> Sequence[ProvenModel]:
        """The families that it takes, with what the tests saw of each."""
        return proven(self.name)

    def refuses(self, model: ModelInfo) -> str | None:
        """Why this model can't be exported, in one line, or None if it can."""
        config = model.config
        names = [name.removesuffix("ForCausalLM") for name in SOURCES]
        if model.architecture in LARGER:
            inner = config.get("text_config")
            kind = inner.get("model_type") if isinstance(inner, dict) else None
            return (
                f"{model.architecture} with a language model {kind} is not supported; with these it is taken by "
                f"itself: {', '.join(ALONE)}"
            )
        if any(key in config for key in ("vision_config", "audio_config", "vision_tower")):
            return (
                f"{model.architecture} also takes images or sound; only text models are supported, and the "
                f"language models of {', '.join(LARGER)}"
            )
        if any(isinstance(config.get(key), int) and config[key] > 1 for key in _EXPERTS):
            return f"{model.architecture} is a mixture of experts, which is not supported yet"
        if model.architecture not in SOURCES:
            near = nearest(model.architecture.removesuffix("ForCausalLM"), names)
            hint = f"nearest: {near}; " if near else ""
            return f"{model.architecture} is not supported; {hint}supported: {', '.join(names)}"
        if model.inside and config.get("quantization_config"):
            return (
                f"its weights are already quantized, which is not supported inside {model.inside}; start from "
                "the full-precision checkpoint"
            )
        source, parts = SOURCES[model.architecture], []
        settings = rotary_settings(config)
        for key in source.numbers if len(settings) > 1 else ():
            if not any(isinstance(rotary.get(key), (int, float)) for rotary in settings):
                return f"its rotary settings have no usable {key}"
        for rotary in settings:
            kind = str(rotary.get("rope_type") or rotary.get("type") or "default")
            if kind not in ("default", *source.scaled):
                return f"its rotary scaling {kind} is not supported for {model.architecture}"
            for key in STATIC.get(kind, ()):
                number = rotary.get(key)
                if not isinstance(number, (int, float)) or not 0 < number < math.inf:
                    return f"its rotary scaling {kind} has no usable {key}"
            if kind == "dynamic" and not rotary.get("alpha"):
                return "its rotary scaling is dynamic without alpha, which is not supported"
            if kind == "longrope" and rotary_switch(config) is None:
                return (
                    "its rotary factors are longrope's, but original_max_position_embeddings is not below "
                    "max_position_embeddings, which is not supported"
                )
            part = rotary.get("partial_rotary_factor") or rotary.get(source.part) or None
            if part not in (None, 1.0) and not source.rotates_partly:
                return "it rotates only a part of each attention head, which is not supported yet"
            if not isinstance(part, (int, float, type(None))):
                return f"its partial_rotary_factor {part!r} is not a number"
            parts += [] if part is None else [part]
        part = min(parts, default=source.rotated)
        rotated = int((model.head_size or 0) * part)
        if part != 1.0 and rotated % HEAD_MULTIPLE:
            return (
                f"it rotates {rotated} numbers of each attention head, and kernels want a multiple of "
                f"{HEAD_MULTIPLE}"
            )
        return refused_key(model.architecture, config)


EXPORTER = DecoderExporter()
