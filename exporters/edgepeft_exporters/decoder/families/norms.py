"""Norms as the families without a class of the builder's have them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from edgepeft.checkpoints.skeleton import final_norm
from edgepeft_exporters.decoder.families.rotary import ModelRotary


class CentredNorms(ModelRotary):
    """Norms that subtract the mean where the model's do, with an offset and a bias where it has them."""

    def __init__(self, config: Any, *arguments: Any) -> None:
        super().__init__(config, *arguments)
        norm = final_norm(self.skeleton.get_decoder())
        kind = type(norm).__name__
        if not kind.endswith("RMSNorm"):
            offset = 1 if kind.endswith("LayerNorm1P") else 0
            self.layernorm_attrs.update(simple=False, epsilon=_epsilon(norm), add_offset=offset)

    def make_layernorm(self, layer_id: int, layernorm: Any, *arguments: Any, **kwargs: Any) -> None:
        """As the builder's; a norm without a bias has one of zeros, for the operator that adds and norms."""
        if not self.layernorm_attrs["simple"] and getattr(layernorm, "bias", None) is None:
            zeros = torch.zeros(layernorm.weight.shape)
            layernorm = SimpleNamespace(weight=layernorm.weight, bias=zeros)
        super().make_layernorm(layer_id, layernorm, *arguments, **kwargs)


def norm_heads(graph: Any, layer_id: int, part: str, norm: Any) -> None:
    """Norm each head of queries or keys (``part`` is q or k) about its mean.

    ``norm`` has one weight for all heads [D], a row for each [heads, D], or a list of norms, one for each.
    """
    stem, path = f"/model/layers.{layer_id}/attn/{part}_norm", f"{part}_path"
    heads = graph.num_attn_heads if part == "q" else graph.num_kv_heads
    size, dtype = graph.head_size, graph.io_dtype
    one = norm.norms[0] if hasattr(norm, "norms") else norm
    weight = torch.stack([n.weight for n in norm.norms]) if one is not norm else norm.weight
    shape = ["batch_size", "sequence_length", heads, size]
    inputs = [graph.attention_attrs[path], f"/model/constants/INT64/[0, 0, {heads}, {size}]"]
    graph.make_reshape(f"{stem}/Heads", inputs, dtype=dtype, shape=shape)
    stored, unit = f"model.layers.{layer_id}.attn.{part}_norm", f"model.attn.norm.unit.{size}"
    if unit not in graph.model.graph.initializers:
        graph.make_initializer(torch.ones(size), unit, to=dtype)
    graph.make_node(
        "LayerNormalization",
        inputs=[f"{stem}/Heads/output_0", unit],
        outputs=[f"{stem}/LayerNorm/output_0"],
        name=f"{stem}/LayerNorm",
        axis=-1,
        epsilon=_epsilon(one),
        stash_type=1,
    )
    graph.make_value(f"{stem}/LayerNorm/output_0", dtype, shape=shape)
    graph.make_initializer(weight, f"{stored}.weight", to=dtype)
    inputs = [f"{stem}/LayerNorm/output_0", f"{stored}.weight"]
    graph.make_mul(f"{stem}/Mul", inputs, dtype=dtype, shape=shape)
    last = "Mul"
    if getattr(one, "bias", None) is not None:
        graph.make_initializer(one.bias, f"{stored}.bias", to=dtype)
        inputs = [f"{stem}/Mul/output_0", f"{stored}.bias"]
        graph.make_add(f"{stem}/Add", inputs, dtype=dtype, shape=shape)
        last = "Add"
    inputs = [f"{stem}/{last}/output_0", f"/model/constants/INT64/[0, 0, {heads * size}]"]
    flat = ["batch_size", "sequence_length", heads * size]
    graph.make_reshape(f"{stem}/Flat", inputs, dtype=dtype, shape=flat)
    graph.attention_attrs[path] = f"{stem}/Flat/output_0"


def norm_behind(graph: Any, layer_id: int, norm: Any, location: str) -> None:
    """Put ``norm`` over what the builder's model ``graph`` is to add next; the stream stays as it is."""
    attributes = graph.layernorm_attrs
    stream, attributes["root_input"] = attributes["root_input"], attributes["skip_input"]
    graph.make_layernorm(layer_id, norm, skip=False, simple=True, location=location)
    attributes["root_input"], attributes["skip_input"] = stream, attributes["output_0"]


def _epsilon(norm: Any) -> float:
    """What a norm adds to the variance, under either of transformers' names for it."""
    return float(norm.eps if hasattr(norm, "eps") else norm.variance_epsilon)
