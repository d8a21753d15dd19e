"""What an ONNX graph may hold: ONNX's and onnxruntime's operators, and tensors with the bytes they declare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepeft.bundle.graph import REFUSED, examine
from edgepeft.errors import InputError
from edgepeft.runtime import Bundle
from tests.runtime.fabricate import MODEL, external, model_of, write_manifest


def refusal(folder: Path, model: Any) -> str:
    """What is said of a bundle with another graph."""
    (folder / MODEL).write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    write_manifest(folder)
    with pytest.raises(InputError) as caught:
        Bundle.open(folder, check="none")
    message = str(caught.value)
    assert "\n" not in message
    return message


def weights() -> TensorProto:
    return external(
        numpy_helper.from_array(np.zeros((4, 4), np.float32), "weight"), "model_q4.onnx_data"
    )


@pytest.mark.parametrize(
    "domain", ["my.ops", "com.microsoft.nchwc", "org.pytorch.aten", "COM.MICROSOFT"]
)
def test_an_operator_of_somebody_else(small: Path, domain: str) -> None:
    node = helper.make_node("Evil", ["x"], ["y"], domain=domain)
    message = refusal(small, model_of([weights()], [node]))
    assert f"the operator 'Evil' is of '{domain}'" in message


@pytest.mark.parametrize("operator", sorted(REFUSED))
@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_an_operator_that_reads_calls_or_never_ends(
    small: Path, operator: str, domain: str
) -> None:
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    assert f"the operator {operator} {REFUSED[operator]}" in refusal(
        small, model_of([weights()], [node])
    )


def test_an_operator_in_a_branch_is_seen(small: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("EPContext", [], ["y"], domain="com.microsoft")], "b", [], []
    )
    node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    assert "the operator EPContext loads" in refusal(small, model_of([], [node]))


def test_names_of_operators_are_shown_harmlessly(small: Path) -> None:
    node = helper.make_node("Op\x1b[2J", ["x"], ["y"], domain="d\x1b")
    assert "\x1b" not in refusal(small, model_of([weights()], [node]))


def test_functions_sparse_tensors_and_training_graphs_are_refused(small: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    opset = [helper.make_opsetid("", 21)]
    model = model_of([], [node])
    model.functions.append(helper.make_function("", "F", ["x"], ["y"], [node], opset))
    assert "functions, which may call each other" in refusal(small, model)
    model = model_of([], [node])
    model.graph.sparse_initializer.add().dims.extend([1 << 40])
    assert "sparse tensors" in refusal(small, model)
    model = model_of([], [node])
    model.training_info.add().initialization.CopyFrom(model.graph)
    assert "a training graph" in refusal(small, model)


def changed(**entries: str) -> TensorProto:
    """The weight with other entries for where its data lies."""
    tensor = weights()
    kept = {entry.key: entry.value for entry in tensor.external_data} | entries
    del tensor.external_data[:]
    for key, value in kept.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ({"length": "128"}, "takes 128 from 0 on"),
        ({"length": "32"}, "takes 32 from 0 on"),
        ({"offset": "4"}, "takes 64 from 4 on"),
        ({"offset": "18446744073709551616"}, "lies at"),
        ({"offset": "-64"}, "lies at"),
        ({"length": "sixty-four"}, "lies at"),
        ({"length": "\u0664"}, "lies at"),
    ],
)
def test_data_that_the_file_does_not_have(
    small: Path, entries: dict[str, str], wanted: str
) -> None:
    assert wanted in refusal(small, model_of([changed(**entries)]))


def test_a_shape_larger_than_the_data(small: Path) -> None:
    tensor = weights()
    del tensor.dims[:]
    tensor.dims.extend([1 << 20, 1 << 20])
    assert "takes 64 from 0 on" in refusal(small, model_of([tensor]))
    tensor = TensorProto(name="huge", dims=[1 << 30, 1 << 10], data_type=TensorProto.FLOAT)
    assert "the tensor 'huge' of 4398046511104 bytes has no data" in refusal(
        small, model_of([tensor])
    )
    tensor.raw_data = bytes(64)
    assert "bytes has 64" in refusal(small, model_of([tensor]))
    tensor = TensorProto(name="huge", dims=[-1], data_type=TensorProto.FLOAT)
    assert "a dimension that can't be" in refusal(small, model_of([tensor]))


@pytest.mark.parametrize(
    "kind", sorted(set(TensorProto.DataType.values()) - {0, TensorProto.STRING})
)
@pytest.mark.parametrize("raw", [True, False])
def test_every_type_of_tensor_is_measured_rightly(tmp_path: Path, kind: int, raw: bool) -> None:
    """Held against onnx's own writer, of odd sizes too."""
    for shape in ((), (3,), (2, 5), (0, 4)):
        values = np.ones(shape, helper.tensor_dtype_to_np_dtype(kind))
        tensor = helper.make_tensor("t", kind, shape, values.flatten().tolist(), raw=False)
        if raw:
            tensor = numpy_helper.from_array(numpy_helper.to_array(tensor), "t")
        path = tmp_path / "model.onnx"
        path.write_bytes(model_of([tensor]).SerializeToString())
        assert examine(path).operators == {("", "Add")}


def test_graphs_of_real_bundles_pass(tiny_bundle: Path) -> None:
    contents = examine(tiny_bundle / MODEL)
    assert ("com.microsoft", "MatMulNBits") in contents.operators
    assert contents.externals
    assert all(one.size == one.length for one in contents.externals)
    assert onnx.load(tiny_bundle / MODEL, load_external_data=False).graph.node


def _wrapped(field: int, content: bytes) -> bytes:
    """A length-delimited field of protobuf."""
    size, length = len(content), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([field << 3 | 2, *length, size]) + content


@pytest.mark.parametrize(
    ("graph", "wanted"),
    [
        (_wrapped(1, b"") * 1_000_001, "more than 1000000 fields"),
        (_wrapped(5, _wrapped(1, b"\x01" * 100_000)), "more than 64 dimensions"),
        (_wrapped(5, b"\x08\x01" * 100_000), "more than 64 dimensions"),
        (_wrapped(1, _wrapped(4, b"x" * 70_000)), "a name of 70000 bytes"),
    ],
    ids=["nodes", "packed dimensions", "dimensions", "name"],
)
def test_a_graph_without_end_is_left_soon(small: Path, graph: bytes, wanted: str) -> None:
    import time

    started = time.process_time()
    assert wanted in refusal(small, _wrapped(7, graph))
    assert time.process_time() - started < 30
