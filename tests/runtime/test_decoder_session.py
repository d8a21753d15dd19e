"""GraphSession on hand-made graphs: types, inputs and shapes that the tiny model does not have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepeft.errors import EdgepeftError, InputError
from edgepeft.runtime import GraphSession

VOCAB = 8


def write_decoder(
    path: Path,
    *,
    kind: int = TensorProto.FLOAT,
    ints: int = TensorProto.INT64,
    head_size: int | str = 2,
    last_only: bool = False,
    extra: str = "",
) -> Path:
    """A decoder whose likeliest next token is id + position, and whose cache records the ids."""
    tensor = helper.make_tensor_value_info
    cache: list[Any] = ["batch_size", 1, "past", head_size]
    nodes = [
        helper.make_node("Add", ["input_ids", "position_ids"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["sum64"], to=TensorProto.INT64),
        helper.make_node("Mod", ["sum64", "vocab"], ["next"]),
        helper.make_node("OneHot", ["next", "vocab", "values"], ["hot"]),
        helper.make_node("Slice", ["hot", "minus_one", "end", "one"], ["last"])
        if last_only
        else helper.make_node("Identity", ["hot"], ["last"]),
        helper.make_node("Cast", ["last"], ["logits"], to=kind),
        helper.make_node("Unsqueeze", ["input_ids", "axes"], ["column"]),
        helper.make_node("Expand", ["column", "wide"], ["pair"]),
        helper.make_node("Cast", ["pair"], ["key"], to=kind),
        helper.make_node("Concat", ["past_key_values.0.key", "key"], ["present.0.key"], axis=2),
    ]
    constants = {
        "vocab": np.array(VOCAB),
        "values": np.array([0.0, 1.5], np.float32),
        "axes": np.array([1, 3]),
        "wide": np.array([1, 1, 1, 2]),
        "minus_one": np.array([-1]),
        "end": np.array([2**62]),
        "one": np.array([1]),
    }
    inputs = [
        tensor("input_ids", ints, ["batch_size", "sequence"]),
        tensor("attention_mask", ints, ["batch_size", "total"]),
        tensor("position_ids", ints, ["batch_size", "sequence"]),
        tensor("past_key_values.0.key", kind, cache),
    ]
    if extra:
        inputs.append(tensor(extra, ints, ["batch_size"]))
    graph = helper.make_graph(
        nodes,
        "decoder",
        inputs,
        [
            tensor("logits", kind, ["batch_size", "sequence", VOCAB]),
            tensor("present.0.key", kind, ["batch_size", 1, "total", head_size]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    if last_only:
        graph.initializer.append(numpy_helper.from_array(np.array([1]), "sequence_axis"))
        graph.node[4].input[3] = "sequence_axis"
    opset = [helper.make_opsetid("", 21)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16])
@pytest.mark.parametrize("ints", [TensorProto.INT64, TensorProto.INT32])
def test_every_type_a_graph_may_have(tmp_path: Path, kind: int, ints: int) -> None:
    session = GraphSession(write_decoder(tmp_path / "model.onnx", kind=kind, ints=ints))
    logits = session.logits([1, 2, 3])
    assert logits.dtype == np.float32
    assert logits.tolist() == (np.eye(VOCAB)[[1, 3, 5]] * 1.5).tolist()
    # Positions go on through the cache: 3+2, 5+3, 0+4, 4+5.
    assert session.greedy([1, 2, 3], 4, ()) == [5, 0, 4, 1]
    assert session.greedy([1, 2, 3], 4, {4}) == [5, 0]


def test_an_open_head_size_is_read_from_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    path = write_decoder(tmp_path / "onnx/model.onnx", head_size="kv_cache_dim")
    with pytest.raises(InputError, match="no fixed shape"):
        GraphSession(path)
    config = {"num_attention_heads": 2, "num_key_value_heads": 1, "hidden_size": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert GraphSession(path).greedy([1], 2, ()) == [1, 2]
    genai = {"model": {"decoder": {"num_key_value_heads": 1, "head_size": 2}}}
    (tmp_path / "genai_config.json").write_text(json.dumps(genai))
    assert GraphSession(path).greedy([1], 2, ()) == [1, 2]


def test_a_pruned_head_is_refused_by_name(tmp_path: Path) -> None:
    session = GraphSession(write_decoder(tmp_path / "model.onnx", last_only=True))
    assert session.greedy([1, 2, 3], 1, ()) == [5]
    with pytest.raises(EdgepeftError, match="prune_lm_head"):
        session.logits([1, 2, 3])


def test_an_input_nobody_feeds_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="past_conv"):
        GraphSession(write_decoder(tmp_path / "model.onnx", extra="past_conv.0"))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such ONNX file"):
        GraphSession(tmp_path / "model.onnx")


def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"garbage")
    with pytest.raises(EdgepeftError, match="cannot load it"):
        GraphSession(tmp_path / "model.onnx")


def test_a_silent_fallback_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime as ort

    path = write_decoder(tmp_path / "model.onnx")
    named = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: named)
    # A driver that names a device and a library that can't use it: onnxruntime takes the CPU and says nothing.
    monkeypatch.setattr("edgepeft.runtime.sessions.find_adapter", lambda provider: None)
    with (
        pytest.warns(UserWarning, match="not in available"),
        pytest.raises(EdgepeftError, match="asked for CUDAExecutionProvider"),
    ):
        GraphSession(path, providers=named)
