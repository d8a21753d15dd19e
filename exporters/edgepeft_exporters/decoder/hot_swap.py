"""Places for hot-swapped adapters in a decoder's graph: a low-rank branch beside each product, fed from outside.

A and B are inputs with an initializer of rank 0 for a default, which onnxruntime's adapters override
(https://onnxruntime.ai/docs/genai/howto/multilora.html): no adapter adds nothing, and each adapter brings its own
rank. Their first dimension is 1, or the batch's where every row has an adapter of its own. The branch is added
before weights are bound, so products of every precision have it alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from edgepeft.errors import InputError
from edgepeft.merging.settings import FrozenBase
from edgepeft.runtime.slots import Run, Slot, Slots
from edgepeft_exporters.decoder.graph import DecoderGraph
from edgepeft_exporters.lazy.bind import deferred_input
from edgepeft_exporters.lazy.rows import rows_of

_BATCH = "adapter_batch"


def add_slots(
    graph: DecoderGraph,
    shapes: Mapping[str, tuple[int, int]],
    modules: str | Sequence[str],
    io_dtype: ir.DataType,
) -> tuple[Slot, ...]:
    """Add a branch to every product of the named modules; what was added.

    ``shapes`` are rows and width of the linear weights that may be adapted, ``modules`` is ``all-linear`` or
    names as in ``[q_proj, v_proj]``. Raises InputError where nothing bears such a name.
    """
    unknown = [] if isinstance(modules, str) else [m for m in modules if not _bear(shapes, m)]
    if unknown:
        raise InputError(f"targets: adapter_modules: {unknown[0]}: the model has no such module")
    slots = []
    for node in list(graph.model.graph):
        weight = deferred_input(node, 1, graph) if node.op_type == "MatMul" else None
        rows = rows_of(graph.deferred[weight], shapes) if weight is not None else None
        if rows is None:
            continue
        if not isinstance(modules, str) and not any(_bear(rows.names, m) for m in modules):
            continue
        runs = [Run(name.removesuffix(".weight"), first, last) for name, first, last in rows.runs()]
        width, count = (int(size) for size in graph.deferred[weight or ""].shape)
        name = (node.name or "").strip("/").removesuffix("/MatMul").replace("/", ".")
        slot = Slot(name, width, count, tuple(runs))
        _branch(graph.model.graph, node, slot, io_dtype)
        slots.append(slot)
    return tuple(slots)


def describe_slots(
    slots: tuple[Slot, ...],
    rank: int,
    frozen: FrozenBase,
    base: Mapping[str, str],
    served: str,
    *,
    exact: bool,
) -> Slots:
    """The list a bundle keeps of its slots for adapters up to ``rank``, trained on a base that was ``frozen``."""
    return Slots(
        rank=rank,
        base=base,
        grid=frozen.grid.as_dict(),
        quantized=frozen.quantized,
        served=served,
        exact=exact,
        slots=slots,
    )


def _bear(names: Sequence[str] | Mapping[str, Any], module: str) -> bool:
    """Whether one of the weights ``names`` belongs to a module of that name."""
    return any(f".{name}".endswith(f".{module}.weight") for name in names)


def _branch(graph: ir.Graph, node: ir.Node, slot: Slot, dtype: ir.DataType) -> None:
    """Add ``x A B`` to the output of one product."""
    rank = f"{slot.name}.rank"
    name_a, name_b = slot.inputs
    down = _input(graph, name_a, [_BATCH, slot.width, rank], (1, slot.width, 0), dtype)
    up = _input(graph, name_b, [_BATCH, rank, slot.count], (1, 0, slot.count), dtype)
    plain = node.outputs[0]
    low = ir.node("MatMul", [node.inputs[0], down], name=f"{node.name}/Down")
    high = ir.node("MatMul", [low.outputs[0], up], name=f"{node.name}/Up")
    added = ir.node("Add", [plain, high.outputs[0]], name=f"{node.name}/Adapted")
    for made in (low, high, added):
        made.outputs[0].name = f"{made.name}/output_0"
    added.outputs[0].type, added.outputs[0].shape = plain.type, plain.shape
    ir.convenience.replace_all_uses_with(plain, added.outputs[0], replace_graph_outputs=True)
    added.replace_input_with(0, plain)
    graph.insert_after(node, [low, high, added])


def _input(
    graph: ir.Graph,
    name: str,
    shape: Sequence[int | str],
    default: tuple[int, ...],
    dtype: ir.DataType,
) -> ir.Value:
    value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
    value.const_value = ir.Tensor(np.zeros(default, dtype.numpy()), name=name)
    graph.inputs.append(value)
    graph.register_initializer(value)
    return value
