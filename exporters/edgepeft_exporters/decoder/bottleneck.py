"""Bottleneck adapters in the graph: float products behind the last one of attention and feed-forward network."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch

from edgepeft.adapters.bottleneck_shape import PARTS
from edgepeft.adapters.unmerged import Unmerged
from edgepeft.errors import EdgepeftError
from edgepeft_exporters.decoder.graph import DecoderGraph
from edgepeft_exporters.decoder.surgery import Surgeon, redirect

_PLACES = {"o_proj": "attn/o_proj", "down_proj": "mlp/down_proj"}
"""Where the graph builder has the product of a module, below its layer."""


def add_bottlenecks(graph: DecoderGraph, unmerged: Unmerged) -> None:
    """Put every adapter behind its product, in the graph's own floating-point type. Raises EdgepeftError."""
    nodes = {node.name: node for node in graph.model.graph}
    for place in dict.fromkeys(
        name.rpartition(".")[0].rpartition(".")[0] for name in unmerged.tensors
    ):
        layer, module = place.split(".")
        name = f"/model/layers.{layer}/{_PLACES[module]}"
        # A bias is added by a node of its own.
        node = nodes.get(f"{name}/Add") or nodes.get(f"{name}/MatMul")
        if node is None:
            raise EdgepeftError(f"the graph has no {name}, behind which an adapter belongs")
        parts = {part: unmerged.tensors[f"{place}.{part}"] for part in PARTS}
        _add(Surgeon(graph, f"{name}/adapter"), node.outputs[0], parts, unmerged.activation)


def _add(
    surgeon: Surgeon, value: ir.Value, parts: dict[str, torch.Tensor], activation: str
) -> None:
    dtype, uses = value.dtype, tuple(value.uses())
    if dtype is None or value.shape is None:
        raise EdgepeftError(f"{value.name}: the graph does not say what it is")
    wide = list(value.shape)
    narrow = [*wide[:-1], len(parts["down.bias"])]

    def linear(source: ir.Value, part: str, shape: list[Any]) -> ir.Value:
        weight = surgeon.table(f"{part}/weight", parts[f"{part}.weight"].T, dtype)
        bias = surgeon.table(f"{part}/bias", parts[f"{part}.bias"], dtype)
        product = surgeon.node("MatMul", [source, weight], f"{part}/MatMul", dtype, shape)
        return surgeon.node("Add", [product, bias], f"{part}/Add", dtype, shape)

    inner = _activated(surgeon, linear(value, "down", narrow), activation, dtype, narrow)
    change = linear(inner, "up", wide)
    redirect(uses, surgeon.node("Add", [value, change], "Add", dtype, wide))


def _activated(
    surgeon: Surgeon, value: ir.Value, activation: str, dtype: ir.DataType, shape: list[Any]
) -> ir.Value:
    def node(op: str, *inputs: ir.Value) -> ir.Value:
        return surgeon.node(op, list(inputs), op, dtype, shape)

    if activation in ("relu", "tanh"):
        return node(activation.capitalize(), value)
    if activation == "silu":
        return node("Mul", value, node("Sigmoid", value))
    return node("Gelu", value)
