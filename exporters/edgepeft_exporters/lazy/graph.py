"""A lazy graph, its initializers, and writing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import TorchTensor, to_torch_dtype

from edgepeft_exporters.lazy.deferred import Deferred


class LazyGraph(Protocol):
    """A graph whose weights are still expressions.

    ``deferred`` maps an initializer's name to the expression over checkpoint names that yields it.
    """

    model: ir.Model
    deferred: dict[str, Deferred]


def lazy_tensor(
    name: str, compute: Any, shape: tuple[int, ...], dtype: ir.DataType
) -> ir.LazyTensor:
    """An initializer whose value ``compute()`` yields as a torch tensor when it is written, and not before."""
    torch_dtype = to_torch_dtype(dtype)

    def materialize() -> TorchTensor:
        value: torch.Tensor = compute()
        return TorchTensor(value.to(torch_dtype).contiguous(), name=name)

    return ir.LazyTensor(materialize, dtype=dtype, shape=ir.Shape(shape), name=name)


def save_graph(graph: LazyGraph, folder: Path, stem: str, progress: Any) -> None:
    """Write ``<stem>.onnx`` and its external data, one tensor in memory at a time."""
    model = graph.model
    model.graph.sort()
    written = 0

    def callback(tensor: Any, info: Any) -> None:
        nonlocal written
        written += 1
        progress(written, info.total)

    ir.save(
        model,
        folder / f"{stem}.onnx",
        external_data=f"{stem}.onnx_data",
        size_threshold_bytes=1024,
        callback=callback,
    )


def put_in_place(nodes: ir.Graph, node: ir.Node, made: ir.Value) -> None:
    """Have ``made`` read wherever the output of ``node`` was; it takes over name, type and shape."""
    old = node.outputs[0]
    name = old.name
    made.type, made.shape = old.type, old.shape
    ir.convenience.replace_all_uses_with(old, made, replace_graph_outputs=True)
    nodes.remove(node, safe=True)
    old.name, made.name = None, name
