"""How large an adapter, a bundle and the process that answers with it will be: headers and recipe tell."""

from __future__ import annotations

from edgepeft.adapters.trained_tables import trained_tables
from edgepeft.models.info import ModelInfo
from edgepeft.models.layer_kinds import CONVOLUTION, layer_kinds
from edgepeft.pipeline.resolved import ResolvedRecipe, ResolvedTarget
from edgepeft.quantization.algorithms import is_calibrated

_RUNTIME_BYTES = 160e6
"""Resident size of Python with onnxruntime-genai and a tokenizer, before any weight."""


def adapter_parameters(resolved: ResolvedRecipe) -> int | None:
    """Elements that train: of the whole model, of a LoRA, or None for methods whose size PEFT alone knows.

    A LoRA is taken to be on every linear layer, or on the named ones as far as the shapes are known.
    """
    model, settings, method = resolved.model, resolved.recipe.method, resolved.method
    assert method is not None
    if method.peft_type is None:
        return model.parameters
    if not method.low_rank:
        return None
    heads = int(model.config.get("num_attention_heads") or 0)
    head = int(model.config.get("head_dim") or (model.hidden_size // heads if heads else 64))
    kv = int(model.config.get("num_key_value_heads") or heads or 1) * head
    query = (heads * head) or model.hidden_size
    hidden, inner = model.hidden_size, model.intermediate_size
    widths = {
        "q_proj": hidden + query,
        "k_proj": hidden + kv,
        "v_proj": hidden + kv,
        "o_proj": query + hidden,
        "gate_proj": hidden + inner,
        "up_proj": hidden + inner,
        "down_proj": inner + hidden,
    }
    sides = [(name, width) for name, width in widths.items() for _ in range(model.layers)]
    sides = _sides_of_layers(model) or sides
    named = settings.target_modules
    chosen = [width for name, width in sides if isinstance(named, str) or name in named]
    rank = int(method.common(settings)["rank"])
    tables = len(trained_tables(method, named)) * (model.vocab_size + hidden)
    return rank * (sum(chosen) + tables)


def _sides_of_layers(model: ModelInfo) -> list[tuple[str, int]]:
    """Of each weight in the layers of a decoder's files its module and what its two sides come to."""
    return [
        (name.rpartition(".")[2], sum(shape))
        for name, shape in model.matrices
        if model.kind == "folder" and ".layers." in name
    ]


def adapter_elements(resolved: ResolvedRecipe) -> int:
    """Elements of the adapter for estimates; a hundredth of the model where nothing better is known."""
    found = adapter_parameters(resolved) if resolved.trains else None
    return resolved.model.parameters // 100 if found is None else found


def bundle_bytes(resolved: ResolvedRecipe, target: ResolvedTarget) -> float:
    """Size of a target's bundle: weights on their grids plus tokenizer and configuration."""
    model, quantize, profile = resolved.model, target.grid, target.profile
    body = model.parameters - model.embedding_parameters
    width = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0}
    if profile.precision == "nf4":
        return (
            body * (0.5 + 4 / 64)
            + adapter_elements(resolved) * 4
            + model.embedding_parameters * 4
            + 4e6
        )
    if profile.bits is None:
        return model.parameters * width[profile.precision] + 4e6
    if quantize.max_bytes is not None:
        return float(quantize.max_bytes)
    zero = 0.0 if quantize.symmetric else 1.0
    # Calibrated rounding chooses its codes for scales in half precision; the others keep float32.
    scale = 2.0 if is_calibrated(target.algorithm) else 4.0

    def per_weight(bits: int, block_size: int) -> float:
        return bits / 8 + (scale + zero * bits / 8) / block_size

    head = (
        width[profile.io_dtype]
        if quantize.head == "float"
        else per_weight(int(quantize.head.removeprefix("int")), quantize.head_blocks(profile.bits))
    )
    layers = body * per_weight(profile.bits, quantize.block_size)
    return layers + model.embedding_parameters * head + 4e6


def device_memory(resolved: ResolvedRecipe, target: ResolvedTarget, tokens: int = 2048) -> float:
    """Resident bytes of a process that answers with a target's bundle, its cache holding ``tokens``.

    Measured on SmolLM2 as int4 and int8: 162 MB besides the bundle's own bytes, the cache next to empty.
    """
    model = resolved.model
    heads = int(model.config.get("num_attention_heads") or 0)
    kv_heads = int(model.config.get("num_key_value_heads") or heads or 1)
    head = int(model.config.get("head_dim") or (model.hidden_size // heads if heads else 64))
    width = 2 if target.profile.io_dtype == "fp16" else 4
    # What convolutions keep is a few tokens' worth.
    attending = model.layers - layer_kinds(model.config).count(CONVOLUTION)
    cache = 2 * attending * kv_heads * head * min(tokens, model.context_length) * width
    return bundle_bytes(resolved, target) + cache + _RUNTIME_BYTES
