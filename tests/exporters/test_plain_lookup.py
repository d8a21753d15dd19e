"""The embedding's lookup in plain operators gives the floats of GatherBlockQuantized, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepeft.quantization.algorithms import find_algorithm
from edgepeft.quantization.grids import IntGrid
from edgepeft.runtime import Bundle, GraphSession
from edgepeft.runtime.devices import CPU
from edgepeft_exporters.lazy.plain_lookup import spread_lookups
from tests.exporters.test_decoder import IDS, graph_of
from tests.quantization.weights import normal
from tests.stages import Find

ROWS = 24
ASKED = np.array([[3, 0, ROWS - 1, 3], [1, 2, 5, 7]])


@dataclass
class _Graph:
    model: ir.Model
    deferred: dict[str, Any] = field(default_factory=dict)


def _model(bits: int, symmetric: bool, block_size: int, width: int) -> Any:
    """A graph of one GatherBlockQuantized over a rounded table [ROWS, width]."""
    grid = IntGrid(bits, block_size, symmetric)
    parts = find_algorithm("rtn")(normal(ROWS, width) + 0.01, grid).packed()
    parts["codes"] = parts["codes"].reshape(ROWS, -1)
    node = helper.make_node(
        "GatherBlockQuantized",
        ["codes", "x", *(name for name in parts if name != "codes")],
        ["y"],
        name="lookup",
        domain="com.microsoft",
        bits=bits,
        block_size=block_size,
        gather_axis=0,
        quantize_axis=1,
    )
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [None, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.numpy(), name) for name, value in parts.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _answer(model: Any) -> Any:
    session = ort.InferenceSession(model.SerializeToString(), providers=[CPU])
    return session.run(["y"], {"x": ASKED})[0]


@pytest.mark.parametrize("width", [128, 160, 203])
@pytest.mark.parametrize("block_size", [16, 32, 64, 128])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_plain_operators_look_up_the_same_floats(
    bits: int, symmetric: bool, block_size: int, width: int
) -> None:
    model = _model(bits, symmetric, block_size, width)
    graph = _Graph(ir.from_proto(model))
    counts: dict[str, int] = {}
    spread_lookups(graph, counts)
    assert counts == {"Gather": 1}
    spread = ir.to_proto(graph.model)
    assert not [node for node in spread.graph.node if node.domain]
    np.testing.assert_array_equal(_answer(spread), _answer(model))


@pytest.mark.parametrize("case", ["llama", "phi3"])
def test_a_bundle_for_browsers_computes_what_one_for_the_cpu_computes(
    built: Find, case: str
) -> None:
    plain, blocks = built(case, "wasm-int4"), built(case, "cpu-int4")
    graph = onnx.load(graph_of(plain), load_external_data=False).graph
    operators = {node.op_type for node in graph.node}
    assert "MatMulNBits" in operators
    assert "GatherBlockQuantized" not in operators
    ours, theirs = (
        GraphSession(Bundle.open(one), providers=[CPU], threads=1).logits(IDS)
        for one in (plain, blocks)
    )
    np.testing.assert_array_equal(ours, theirs)
