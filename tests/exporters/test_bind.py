"""Binding codes into a graph: whole weights, parts of one, several joined; and what can't be bound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.errors import EdgepeftError
from edgepeft.quantization.algorithms import find_algorithm
from edgepeft.quantization.grids import IntGrid
from edgepeft.quantization.packed_weights import QuantizedWeights
from edgepeft.quantization.plan import QuantizationPlan, RoundedWeight
from edgepeft.quantization.rounding import round_weight
from edgepeft_exporters.decoder.graph import DecoderGraph
from edgepeft_exporters.lazy.bind import bind_codes
from edgepeft_exporters.lazy.deferred import Deferred
from edgepeft_exporters.lazy.graph import lazy_tensor, save_graph

FLOAT = ir.DataType.FLOAT
GRID = IntGrid(4, 32, False)
EMBEDDING = "embed.weight"
SHAPES = {"fused.weight": (96, 64), "a.weight": (32, 64), "b.weight": (16, 64), EMBEDDING: (40, 48)}
Product = Callable[[Callable[[str], Any]], Any]


def weight(name: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(name))
    return torch.randn(SHAPES[name], generator=generator)


def rounded(name: str, grid: IntGrid = GRID) -> torch.Tensor:
    return find_algorithm("rtn")(weight(name), grid).dequantize()


def deferred(name: str) -> Deferred:
    shadow = torch.empty(SHAPES[name], device="meta")
    return Deferred(shadow, lambda source: source(name), weight, frozenset({name}))


def quantize(
    folder: Path, grids: dict[str, IntGrid], half: tuple[str, ...] = ()
) -> QuantizedWeights:
    parts: dict[str, torch.Tensor] = {}
    for name, grid in grids.items():
        made = round_weight(name, weight(name), grid, find_algorithm("rtn"))
        parts.update({f"{name}.{part}": value for part, value in made.items()})
    save_file(parts, folder / "codes.safetensors")
    entries = {n: RoundedWeight(shape=SHAPES[n], grid=g) for n, g in grids.items()}
    plan = QuantizationPlan(
        algorithm="rtn", weights=entries, half=half, head=EMBEDDING, embedding=EMBEDDING
    )
    return QuantizedWeights(plan, SafetensorsSource.from_file(folder / "codes.safetensors"))


def graph_of(constants: dict[str, Deferred], *, gather: bool = False) -> DecoderGraph:
    """A graph that multiplies its input by each constant, or looks rows of the only one up."""
    kind = ir.DataType.INT64 if gather else ir.DataType.FLOAT
    x = ir.Value(name="x", type=ir.TensorType(kind), shape=ir.Shape(["n"] if gather else ["n", 64]))
    nodes, initializers = [], []
    for name, tensor in constants.items():
        value = ir.Value(
            name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(tuple(tensor.shape))
        )
        value.const_value = lazy_tensor(
            name, tensor.evaluate, tuple(tensor.shape), ir.DataType.FLOAT
        )
        initializers.append(value)
        inputs = [value, x] if gather else [x, value]
        node = ir.node("Gather" if gather else "MatMul", inputs, name=f"{name}/node")
        node.outputs[0].name = f"{name}/output"
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        node.outputs[0].shape = ir.Shape(["n", None])
        nodes.append(node)
    graph = ir.Graph(
        [x],
        [node.outputs[0] for node in nodes],
        nodes=nodes,
        initializers=initializers,
        opset_imports={"": 21, "com.microsoft": 1},
        name="graph",
    )
    return DecoderGraph(ir.Model(graph, ir_version=10), 16, constants)


def run(graph: DecoderGraph, folder: Path, x: Any) -> list[Any]:
    save_graph(graph, folder, "graph", lambda done, total: None)
    session = onnxruntime.InferenceSession(
        folder / "graph.onnx", providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {"x": x}))


PRODUCTS: dict[str, list[Product]] = {
    "whole": [lambda w: w("fused.weight").T],
    "one weight for two products": [lambda w: w("fused.weight").T, lambda w: w("fused.weight").T],
    # As in Phi-3, where queries, keys and values lie in one weight, all of them of one size.
    "equal parts of one weight": [
        lambda w: w("fused.weight")[:32].T,
        lambda w: w("fused.weight")[32:64].T,
        lambda w: w("fused.weight")[64:].T,
    ],
    "unequal parts": [lambda w: w("fused.weight")[:80].T, lambda w: w("fused.weight")[80:].T],
    "whole and part": [lambda w: w("fused.weight").T, lambda w: w("fused.weight")[16:48].T],
    "joined": [lambda w: torch.cat([w("a.weight"), w("b.weight")]).T],
    "joined in the other order": [lambda w: torch.cat([w("b.weight").T, w("a.weight").T], dim=1)],
    "parts joined": [
        lambda w: torch.cat([w("fused.weight")[64:], w("a.weight")[8:24], w("b.weight")]).T
    ],
    "rows of heads rearranged": [
        lambda w: w("a.weight").reshape(2, 16, 64).flip(0).reshape(32, 64).T
    ],
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_read_the_codes_of_their_own_rows(name: str, tmp_path: Path) -> None:
    products = PRODUCTS[name]
    constants = {f"w{index}": product(deferred) for index, product in enumerate(products)}
    graph = graph_of(constants)
    used = {n for n in SHAPES if any(reads(tensor, n) for tensor in constants.values())}
    counts = bind_codes(graph, quantize(tmp_path, dict.fromkeys(used, GRID)), FLOAT, 0)
    assert counts == {"MatMulNBits": len(products), "GatherBlockQuantized": 0, "MatMul": 0}
    answers = run(graph, tmp_path, np.eye(64, dtype=np.float32))
    for product, answer in zip(products, answers, strict=True):
        torch.testing.assert_close(torch.from_numpy(answer), product(rounded).contiguous())


def reads(tensor: Deferred, name: str) -> bool:
    asked: list[str] = []

    def load(wanted: str) -> torch.Tensor:
        asked.append(wanted)
        return weight(wanted)

    tensor.evaluate(load)
    return name in asked


def test_one_weight_read_twice_is_stored_once(tmp_path: Path) -> None:
    graph = graph_of({f"w{i}": deferred("fused.weight").T for i in range(2)})
    bind_codes(graph, quantize(tmp_path, {"fused.weight": GRID}), FLOAT, 0)
    run(graph, tmp_path, np.eye(64, dtype=np.float32))
    names = [tensor.name for tensor in onnx.load(tmp_path / "graph.onnx").graph.initializer]
    assert sorted(names) == [f"fused.weight.{p}" for p in ("codes", "scales", "zero_points")]


def test_unquantized_products_stay_as_they_are(tmp_path: Path) -> None:
    graph = graph_of({"w0": deferred("a.weight").T, "w1": deferred("b.weight").T})
    counts = bind_codes(graph, quantize(tmp_path, {"a.weight": GRID}), FLOAT, 0)
    assert counts == {"MatMulNBits": 1, "GatherBlockQuantized": 0, "MatMul": 1}
    first, second = run(graph, tmp_path, np.eye(64, dtype=np.float32))
    torch.testing.assert_close(torch.from_numpy(first), rounded("a.weight").T.contiguous())
    assert np.array_equal(second, weight("b.weight").T.numpy())


def test_products_kept_in_half_precision_take_two_bytes_a_weight(tmp_path: Path) -> None:
    joined = torch.cat([deferred("a.weight"), deferred("b.weight")]).T
    graph = graph_of({"w0": joined, "w1": deferred("fused.weight").T})
    quantized = quantize(tmp_path, {}, half=("a.weight", "b.weight"))
    counts = bind_codes(graph, quantized, FLOAT, 0)
    assert counts == {"MatMulNBits": 0, "GatherBlockQuantized": 0, "MatMul": 2}
    first, second = run(graph, tmp_path, np.eye(64, dtype=np.float32))
    both = torch.cat([weight("a.weight"), weight("b.weight")])
    assert np.array_equal(first, both.half().float().T.numpy())
    assert np.array_equal(second, weight("fused.weight").T.numpy())
    stored = {t.name: t.data_type for t in onnx.load(tmp_path / "graph.onnx").graph.initializer}
    assert sorted(stored.values()) == [onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16]


@pytest.mark.parametrize("grid", [GRID, IntGrid(8, 16, True), IntGrid(4, 64, False)])
def test_lookup_gathers_rounded_rows_without_their_padding(grid: IntGrid, tmp_path: Path) -> None:
    graph = graph_of({"table": deferred(EMBEDDING)}, gather=True)
    counts = bind_codes(graph, quantize(tmp_path, {EMBEDDING: grid}), FLOAT, 0)
    assert counts == {"MatMulNBits": 0, "GatherBlockQuantized": 1, "MatMul": 0}
    (rows,) = run(graph, tmp_path, np.array([39, 0, 7]))
    expected = rounded(EMBEDDING, grid)[[39, 0, 7]]
    torch.testing.assert_close(torch.from_numpy(rows), expected)


NOT_ROWS: dict[str, Product] = {
    "not transposed": lambda w: w("a.weight")[:, :32],
    "columns": lambda w: w("a.weight")[:, 32:].T,
    "columns reversed": lambda w: w("a.weight").flip(1).T,
}


@pytest.mark.parametrize("name", NOT_ROWS)
def test_a_quantized_weight_used_otherwise_is_named(name: str, tmp_path: Path) -> None:
    graph = graph_of({"w0": NOT_ROWS[name](deferred)})
    with pytest.raises(EdgepeftError, match=r"^a\.weight: was quantized, but the graph does not"):
        bind_codes(graph, quantize(tmp_path, {"a.weight": GRID}), FLOAT, 0)


def test_joined_weights_need_one_grid(tmp_path: Path) -> None:
    graph = graph_of({"w0": torch.cat([deferred("a.weight"), deferred("b.weight")]).T})
    grids = {"a.weight": GRID, "b.weight": IntGrid(8, 32, False)}
    with pytest.raises(EdgepeftError, match="share a product but not a grid"):
        bind_codes(graph, quantize(tmp_path, grids), FLOAT, 0)
