"""Where the graph of each architecture comes from, and what of its options the tests hold against the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ANY = "LlamaModel"
"""The builder's class that architectures without one stand in for."""
_FAMILIES = "edgepeft_exporters.decoder.families"


STATIC: Mapping[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "yarn": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
"""Rotary scalings of transformers that come to tables, whatever a text's length, and the numbers they need."""


@dataclass(frozen=True)
class Source:
    """How an architecture becomes a graph.

    ``model`` is the builder's class, ``graph`` a module of ours with a class ``Graph`` in its place, or before it
    where both are named. ``scaled`` is the rotary scaling that comes out right. ``rotates_partly`` says whether
    the graph is right where a part of each attention head is rotated, and ``rotated`` how large a part that is in
    a configuration that is silent; ``part`` is a key that says it beside transformers' own. ``numbers`` are those
    of rotary settings that the graph reads besides.
    """

    model: str = ANY
    scaled: tuple[str, ...] = tuple(STATIC)
    rotates_partly: bool = False
    rotated: float = 1.0
    part: str = "partial_rotary_factor"
    numbers: tuple[str, ...] = ()
    graph: str | None = None


SOURCES: Mapping[str, Source] = {
    "LlamaForCausalLM": Source(),
    "MistralForCausalLM": Source("MistralModel"),
    "Qwen2ForCausalLM": Source("QwenModel"),
    "Qwen3ForCausalLM": Source("Qwen3Model"),
    "GemmaForCausalLM": Source("GemmaModel"),
    "Gemma2ForCausalLM": Source("Gemma2Model"),
    "Gemma3ForCausalLM": Source("Gemma3Model"),
    "Phi3ForCausalLM": Source("Phi3MiniModel", ("longrope",), rotates_partly=True),
    "SmolLM3ForCausalLM": Source("SmolLM3Model"),
    "GraniteForCausalLM": Source("GraniteModel"),
    "Ernie4_5ForCausalLM": Source("ErnieModel"),
    "HunYuanDenseV1ForCausalLM": Source("HunyuanDenseV1Model", (*STATIC, "dynamic")),
    "Olmo2ForCausalLM": Source(graph=f"{_FAMILIES}.olmo"),
    "Olmo3ForCausalLM": Source(graph=f"{_FAMILIES}.olmo"),
    "Exaone4ForCausalLM": Source(graph=f"{_FAMILIES}.exaone"),
    "GlmForCausalLM": Source(rotates_partly=True, rotated=0.5, graph=f"{_FAMILIES}.glm"),
    "Glm4ForCausalLM": Source(rotates_partly=True, rotated=0.5, graph=f"{_FAMILIES}.glm"),
    "ArceeForCausalLM": Source(graph=f"{_FAMILIES}.two_layer"),
    "NemotronForCausalLM": Source(rotates_partly=True, rotated=0.5, graph=f"{_FAMILIES}.two_layer"),
    "Starcoder2ForCausalLM": Source(graph=f"{_FAMILIES}.two_layer"),
    "GraniteMoeHybridForCausalLM": Source("GraniteMoEHybridModel"),
    "MinistralForCausalLM": Source(),
    "Ministral3ForCausalLM": Source(
        scaled=("yarn",),
        numbers=("llama_4_scaling_beta", "original_max_position_embeddings"),
        graph=f"{_FAMILIES}.ministral3",
    ),
    "SeedOssForCausalLM": Source(),
    "StableLmForCausalLM": Source(rotates_partly=True, rotated=0.25, graph=f"{_FAMILIES}.parallel"),
    "PhiForCausalLM": Source(rotates_partly=True, rotated=0.5, graph=f"{_FAMILIES}.parallel"),
    "GPTNeoXForCausalLM": Source(
        rotates_partly=True, rotated=0.25, part="rotary_pct", graph=f"{_FAMILIES}.neox"
    ),
    "CohereForCausalLM": Source(graph=f"{_FAMILIES}.cohere"),
    "Cohere2ForCausalLM": Source(graph=f"{_FAMILIES}.cohere"),
    "ApertusForCausalLM": Source(graph=f"{_FAMILIES}.apertus"),
    "HeliumForCausalLM": Source(graph=f"{_FAMILIES}.helium"),
    "Lfm2ForCausalLM": Source("LFM2Model", graph=f"{_FAMILIES}.lfm2"),
}
"""Architectures whose exported graph the tests hold against the original model."""


def rotary_settings(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a configuration says of rotary positions, under newer and older keys, for each kind of layer."""
    found: list[Mapping[str, Any]] = [config]
    for key in ("rope_parameters", "rope_scaling"):
        settings = config.get(key)
        if isinstance(settings, Mapping):
            found += [settings, *(v for v in settings.values() if isinstance(v, Mapping))]
    return found


def rotary_kinds(config: Mapping[str, Any]) -> list[str]:
    """The kinds of rotary scaling in a configuration, ``default`` for what is silent."""
    return [
        str(one.get("rope_type") or one.get("type") or "default") for one in rotary_settings(config)
    ]
