"""onnxruntime's operators read our packed parts as the weights we say they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgepeft.quantization.algorithms import find_algorithm
from edgepeft.quantization.grids import BlockCodes, IntGrid
from tests.quantization.weights import BLOCK_SIZES, normal

ROWS = 24


def run_node(op: str, x: Any, constants: dict[str, Any], **attributes: Any) -> torch.Tensor:
    """Run a graph of one contrib operator on ``x`` and ``constants``, in order of ``inputs``."""
    inputs = attributes.pop("inputs")
    node = helper.make_node(op, inputs, ["y"], domain="com.microsoft", **attributes)
    kind = TensorProto.FLOAT if x.dtype == np.float32 else TensorProto.INT64
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", kind, list(x.shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.numpy(), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (answer,) = session.run(["y"], {"x": x})
    return torch.from_numpy(answer)


def rounded(bits: int, symmetric: bool, block_size: int, width: int) -> BlockCodes:
    weight = normal(ROWS, width) + 0.01
    return find_algorithm("rtn")(weight, IntGrid(bits, block_size, symmetric))


SHAPES = [
    pytest.param(bits, symmetric, size, width, id=f"int{bits}-{symmetric}-{size}-{width}")
    for bits in (4, 8)
    for symmetric in (False, True)
    for size in BLOCK_SIZES
    for width in (128, 160, 203)
]


@pytest.mark.parametrize(("bits", "symmetric", "block_size", "width"), SHAPES)
def test_matmul_by_the_identity_is_the_dequantized_weight(
    bits: int, symmetric: bool, block_size: int, width: int
) -> None:
    codes = rounded(bits, symmetric, block_size, width)
    parts = codes.packed()
    product = run_node(
        "MatMulNBits",
        np.eye(width, dtype=np.float32),
        parts,
        inputs=["x", *parts],
        K=width,
        N=ROWS,
        bits=bits,
        block_size=block_size,
    )
    torch.testing.assert_close(product.T, codes.dequantize(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("bits", "symmetric", "block_size", "width"), SHAPES)
def test_gathered_rows_are_those_of_the_dequantized_weight(
    bits: int, symmetric: bool, block_size: int, width: int
) -> None:
    codes = rounded(bits, symmetric, block_size, width)
    parts = codes.packed()
    # The lookup reads the same bytes as the product, a row's blocks one after the other.
    parts["codes"] = parts["codes"].reshape(ROWS, -1)
    wanted = [3, 0, ROWS - 1, 3]
    got = run_node(
        "GatherBlockQuantized",
        np.array(wanted),
        parts,
        inputs=["codes", "x", *(name for name in parts if name != "codes")],
        bits=bits,
        block_size=block_size,
        gather_axis=0,
        quantize_axis=1,
    )
    torch.testing.assert_close(got[:, :width], codes.dequantize()[wanted], rtol=1e-5, atol=1e-6)
