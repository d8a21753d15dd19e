"""Decoder language models, through onnxruntime-genai's model builder used as a library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgepeft.checkpoints.rotary import rotary_switch
from edgepeft.errors import nearest
from edgepeft.models import ModelInfo
from edgepeft_exporters.decoder.config_keys import refused_key

ARCHITECTURES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "GemmaForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "Phi3ForCausalLM",
    "SmolLM3ForCausalLM",
    "GraniteForCausalLM",
    "Ernie4_5ForCausalLM",
    "HunYuanDenseV1ForCausalLM",
)
"""Architectures whose exported graph the tests hold against the original model."""

SCALED: Mapping[str, tuple[str, ...]] = {
    "LlamaForCausalLM": ("llama3",),
    "MistralForCausalLM": ("linear",),
    "Qwen2ForCausalLM": ("linear",),
    "Qwen3ForCausalLM": ("linear",),
    "GemmaForCausalLM": ("linear",),
    "Gemma2ForCausalLM": ("linear",),
    "Phi3ForCausalLM": ("longrope",),
    "GraniteForCausalLM": ("linear",),
    "Ernie4_5ForCausalLM": ("linear",),
    "HunYuanDenseV1ForCausalLM": ("dynamic",),
}
"""The rotary scaling of which the same holds; the builder passes over others without a word."""

ROTATES_PARTLY = frozenset({"Phi3ForCausalLM"})
"""Architectures of which the same holds where only a part of each attention head is rotated."""

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


@dataclass(frozen=True)
class DecoderExporter:
    """Says which models this exporter takes; the work is in ``stage``."""

    name: str = "decoder"
    stage: str = "edgepeft_exporters.decoder.stage:run"

    def refuses(self, model: ModelInfo) -> str | None:
        """Why this model can't be exported, in one line, or None if it can."""
        config = model.config
        names = [name.removesuffix("ForCausalLM") for name in ARCHITECTURES]
        if any(key in config for key in ("vision_config", "audio_config", "vision_tower")):
            return (
                f"{model.architecture} also takes images or sound; only text models are supported"
            )
        if any(isinstance(config.get(key), int) and config[key] > 1 for key in _EXPERTS):
            return f"{model.architecture} is a mixture of experts, which is not supported yet"
        if model.architecture not in ARCHITECTURES:
            near = nearest(model.architecture.removesuffix("ForCausalLM"), names)
            hint = f"nearest: {near}; " if near else ""
            return f"{model.architecture} is not supported; {hint}supported: {', '.join(names)}"
        if config.get("quantization_config") and not model.four_bit:
            return (
                "its weights are already quantized, in another way than bitsandbytes' 4 bits; start from the "
                "full-precision checkpoint"
            )
        for rotary in _rotary_settings(config):
            kind = str(rotary.get("rope_type") or rotary.get("type") or "default")
            if kind not in ("default", *SCALED.get(model.architecture, ())):
                return f"its rotary scaling {kind} is not supported for {model.architecture}"
            if kind == "dynamic" and not rotary.get("alpha"):
                return "its rotary scaling is dynamic without alpha, which is not supported"
            if kind == "longrope" and rotary_switch(config) is None:
                return (
                    "its rotary factors are longrope's, but original_max_position_embeddings is not below "
                    "max_position_embeddings, which is not supported"
                )
            part = rotary.get("partial_rotary_factor") or 1.0
            if part != 1.0 and model.architecture not in ROTATES_PARTLY:
                return "it rotates only a part of each attention head, which is not supported yet"
        return refused_key(model.architecture, config)


def _rotary_settings(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a configuration says of rotary positions, under newer and older keys, for each kind of layer."""
    found: list[Mapping[str, Any]] = [config]
    for key in ("rope_parameters", "rope_scaling"):
        settings = config.get(key)
        if isinstance(settings, Mapping):
            found += [settings, *(v for v in settings.values() if isinstance(v, Mapping))]
    return found


EXPORTER = DecoderExporter()
