"""Copies of a bundle whose graph is changed so that more can be measured of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from edgepeft.runtime.bundle import Bundle

_LEVEL = "accuracy_level"
RESTORED_AT_ONCE = 128 * 2**20
"""Bytes of float32 weights that one product may restore: the CPU has no float kernel for 8-bit weights."""


def without_accuracy_level(
    bundle: Bundle, scratch: Path, *, restored: int = RESTORED_AT_ONCE
) -> Bundle | None:
    """The bundle with float activations in integer products (accuracy level 0); None where it is so already.

    Products that would restore more bytes of weights than ``restored`` are several.
    """
    model = ir.load(bundle.model_file)
    nodes = [
        node
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
        if _LEVEL in node.attributes
    ]
    if not nodes:
        return None
    for node in nodes:
        del node.attributes[_LEVEL]
        if _restored_bytes(node) > restored:
            _split(model.graph, node, restored)
    return _saved(bundle, model, scratch / "level-0")


def widened(bundle: Bundle, scratch: Path) -> Bundle:
    """The bundle with every bfloat16 tensor as float32, which the CPU can run.

    Weights keep their bfloat16 values exactly; what is computed between them is not rounded to bfloat16.
    """
    model = ir.load(bundle.model_file)
    narrow, wide = ir.DataType.BFLOAT16, ir.DataType.FLOAT
    for value in model.graph.initializers.values():
        if value.dtype == narrow and value.const_value is not None:
            value.const_value = _float32(value.const_value)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for name, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype == narrow:
                node.attributes[name] = ir.AttrTensor(name, _float32(attribute.value))
            elif name == "to" and attribute.value == int(narrow):
                node.attributes[name] = ir.AttrInt64(name, int(wide))
        for value in (*node.inputs, *node.outputs):
            if value is not None and value.dtype == narrow:
                value.dtype = wide
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        if value.dtype == narrow:
            value.dtype = wide
    return _saved(bundle, model, scratch / "widened")


def with_float_products(bundle: Bundle, scratch: Path) -> Bundle:
    """The bundle with 8-bit products at accuracy level 0 as products with the same weights in floating point.

    The same numbers many times faster: the CPU has no float kernel for 8-bit weights and would restore all of
    them at every call. Returns the bundle itself where there is no such product.
    """
    model = ir.load(bundle.model_file)
    changed = False
    for node in list(model.graph):
        settings = _settings(node)
        if node.op_type != "MatMulNBits" or settings["bits"] != 8 or settings.get(_LEVEL):
            continue
        weight = _restored(node, settings["K"], settings["N"])
        model.graph.register_initializer(weight)
        product = ir.node("MatMul", [node.inputs[0], weight], name=node.name)
        _take_place(model.graph, node, product)
        changed = True
    return _saved(bundle, model, scratch / "float-products") if changed else bundle


def _restored(node: ir.Node, width: int, count: int) -> ir.Value:
    """The weight [K, N] of a MatMulNBits of 8 bits, computed when it is written."""
    codes, scales, *rest = (_constant(value) for value in node.inputs[1:])
    zero = rest[0] if rest else None
    dtype = node.outputs[0].dtype or ir.DataType.FLOAT

    def materialize() -> ir.Tensor:
        blocks = codes.numpy().astype("float32")
        middle = 128.0 if zero is None else zero.numpy().reshape(*blocks.shape[:2], 1)
        values = (blocks - middle) * scales.numpy().astype("float32").reshape(*blocks.shape[:2], 1)
        weight = values.reshape(count, -1)[:, :width].T
        return ir.Tensor(weight.astype(dtype.numpy(), order="C"), name=name)

    name = f"{node.name}/restored"
    value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape((width, count)))
    value.const_value = ir.LazyTensor(
        materialize, dtype=dtype, shape=ir.Shape((width, count)), name=name
    )
    return value


def _settings(node: ir.Node) -> dict[str, Any]:
    return {name: attribute.value for name, attribute in node.attributes.items()}


def _restored_bytes(node: ir.Node) -> int:
    """Bytes of the float32 weight that the CPU restores at every call of a product."""
    settings = _settings(node)
    if node.op_type != "MatMulNBits" or settings["bits"] != 8:
        return 0
    return 4 * int(settings["K"]) * int(settings["N"])


def _split(graph: ir.Graph, node: ir.Node, restored: int) -> None:
    """Put products in the place of one, each with so many of the weight's rows that it restores no more bytes."""
    if len(node.inputs) > 4:
        return
    settings = _settings(node)
    count = int(settings["N"])
    size = max(1, restored // (4 * int(settings["K"])))
    found = []
    for start in range(0, count, size):
        rows = slice(start, min(start + size, count))
        name = f"{node.name}/{start}"
        inputs = [node.inputs[0], *(_rows(value, count, rows) for value in node.inputs[1:])]
        for value in inputs[1:]:
            graph.register_initializer(value)
        attributes = {**settings, "N": rows.stop - rows.start}
        part = ir.node(
            "MatMulNBits", inputs, attributes, domain=node.domain, name=name, version=node.version
        )
        part.outputs[0].name = f"{name}/output"
        part.outputs[0].type = node.outputs[0].type
        graph.insert_before(node, part)
        found.append(part.outputs[0])
    whole = ir.node("Concat", found, {"axis": -1}, name=f"{node.name}/whole")
    _take_place(graph, node, whole)


def _rows(value: ir.Value | None, count: int, rows: slice) -> ir.Value:
    """Some rows of a constant of ``count`` rows, which may be stored flat or widened by a Cast."""
    assert value is not None
    stored = _constant(value)
    dtype = value.dtype or stored.dtype
    flat = stored.shape[0] != count
    whole = stored.numpy().reshape(count, -1) if flat else stored.numpy()
    chosen = whole[rows].astype(dtype.numpy(), copy=False)
    name = f"{value.name}/{rows.start}"
    tensor = ir.Tensor(chosen.reshape(-1) if flat else chosen, dtype=dtype, name=name)
    return ir.Value(
        name=name, type=ir.TensorType(dtype), shape=ir.Shape(tensor.shape), const_value=tensor
    )


def _take_place(graph: ir.Graph, node: ir.Node, other: ir.Node) -> None:
    """Put ``other``, whose output is the same, in a node's place."""
    name = node.outputs[0].name
    other.outputs[0].type, other.outputs[0].shape = node.outputs[0].type, node.outputs[0].shape
    graph.insert_before(node, other)
    ir.convenience.replace_all_uses_with(
        node.outputs[0], other.outputs[0], replace_graph_outputs=True
    )
    graph.remove(node, safe=True)
    other.outputs[0].name = name


def _constant(value: ir.Value | None) -> Any:
    """A constant input, also one that a Cast widens when a session opens."""
    if value is None:
        return None
    producer = value.producer()
    return value.const_value if producer is None else _constant(producer.inputs[0])


def _float32(tensor: Any) -> ir.LazyTensor:
    def materialize() -> ir.Tensor:
        return ir.Tensor(tensor.numpy().astype("float32"), name=tensor.name)

    return ir.LazyTensor(
        materialize, dtype=ir.DataType.FLOAT, shape=ir.Shape(tensor.shape), name=tensor.name
    )


def _saved(bundle: Bundle, model: ir.Model, folder: Path) -> Bundle:
    """Write a changed graph with all its data into a folder laid out as the bundle is."""
    shutil.rmtree(folder, ignore_errors=True)
    graph = folder / bundle.model_file.relative_to(bundle.path)
    graph.parent.mkdir(parents=True)
    for path in bundle.path.iterdir():
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    ir.save(model, graph, external_data=f"{graph.name}_data", size_threshold_bytes=1024)
    return replace(bundle, path=folder, model_file=graph)
