"""Bundles made by hand: small ones to be refused, and a tiny real one to be run."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.tiny import write_tiny_model

MODEL = "onnx/model_q4.onnx"
DATA = "onnx/model_q4.onnx_data"

_BUILD = """
import sys
from onnxruntime_genai.models import builder
source, out, cache, precision = sys.argv[1:]
further = ["int4_block_size=32"] if precision == "int4" else []
options = builder.parse_extra_options("", source, out, precision, "cpu", cache, further)
builder.create_model("", source, out, precision, "cpu", cache, **options)
"""


def write_graph(path: Path, location: str | None = None) -> None:
    """A graph that adds a constant [4, 4]; its data lies in ``location`` or beside it, listed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weight = numpy_helper.from_array(np.arange(16, dtype=np.float32).reshape(4, 4), "weight")
    path.with_name(path.name + "_data").write_bytes(weight.raw_data)
    onnx.save(
        model_of([external(weight, path.name + "_data" if location is None else location)]), path
    )


def external(tensor: TensorProto, location: str) -> TensorProto:
    """``tensor`` with its data declared to lie in the file ``location``."""
    moved = TensorProto()
    moved.CopyFrom(tensor)
    moved.ClearField("raw_data")
    moved.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "64")):
        entry = moved.external_data.add()
        entry.key, entry.value = key, value
    return moved


def model_of(initializers: list[TensorProto], nodes: list[onnx.NodeProto] | None = None) -> Any:
    """A model around ``initializers``, or around ``nodes`` alone."""
    shape = [4, 4]
    graph = helper.make_graph(
        nodes or [helper.make_node("Add", ["x", initializers[0].name], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def write_manifest(folder: Path, *, context_length: int = 64, **changes: Any) -> None:
    """Write edgepeft.json for what lies in ``folder``; ``changes`` replace its top-level keys."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "format": 1,
        "kind": "bundle",
        "edgepeft": "0.1.0",
        "outputs": {
            path.relative_to(folder).as_posix(): {
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "bytes": path.stat().st_size,
            }
            for path in files
            if path.name != "edgepeft.json"
        },
        "result": {
            "target": "cpu-int4",
            "model_file": MODEL,
            "prompt": {"mode": "chat"},
            "provider": "CPUExecutionProvider",
            "base": "tiny",
            "runtimes": ["onnxruntime-genai", "onnxruntime", "optimum", "transformers.js"],
            "context_length": context_length,
        },
        **changes,
    }
    (folder / "edgepeft.json").write_text(json.dumps(manifest))


def edit_json(path: Path, key: str, value: Any) -> None:
    """Set the dotted ``key`` of a JSON file, or remove it when ``value`` is ``...``."""
    tree = json.loads(path.read_text())
    *parents, last = key.split(".")
    at = tree
    for part in parents:
        at = at.setdefault(part, {})
    if value is ...:
        del at[last]
    else:
        at[last] = value
    path.write_text(json.dumps(tree))


def write_small_bundle(folder: Path) -> Path:
    """A bundle that opens though its graph is no language model; returns ``folder``."""
    write_graph(folder / MODEL)
    config = {"model": {"context_length": 64, "vocab_size": 8, "decoder": {"filename": MODEL}}}
    (folder / "genai_config.json").write_text(json.dumps(config))
    write_manifest(folder)
    return folder


def write_tiny_bundle(folder: Path, scratch: Path, precision: str = "int4") -> Path:
    """A real bundle of the tiny llama in ``scratch/llama``, which is made if need be, laid out as edgepeft lays
    bundles out; takes seconds.
    """
    source = scratch / "llama"
    if not source.is_dir():
        write_tiny_model(source, "llama")
    built = scratch / "built"
    # Its import changes sys.path and prints, so the builder gets a process of its own.
    subprocess.run(
        [sys.executable, "-c", _BUILD, str(source), str(built), str(scratch / "cache"), precision],
        check=True,
        capture_output=True,
    )
    (folder / "onnx").mkdir(parents=True)
    graph = onnx.load(built / "model.onnx", load_external_data=False)
    for node in graph.graph.node:
        # With int8 activations a token's cache depends on how many were fed along with it, so
        # that going on from a cache and starting afresh could not be compared exactly.
        kept = [attribute for attribute in node.attribute if attribute.name != "accuracy_level"]
        del node.attribute[:]
        node.attribute.extend(kept)
    # The graph names its data file, so only the graph is renamed.
    onnx.save(graph, folder / MODEL)
    shutil.copy(built / "model.onnx.data", folder / "onnx" / "model.onnx.data")
    for path in source.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, folder / path.name)
    shutil.copy(built / "genai_config.json", folder / "genai_config.json")
    edit_json(folder / "genai_config.json", "model.decoder.filename", MODEL)
    write_manifest(folder, context_length=512)
    return folder


def write_encoder_bundle(folder: Path, task: str, width: int, **result: Any) -> Path:
    """A bundle of an encoder that runs, its graph made by hand; returns ``folder``.

    Token and type embeddings are mixed over the text, with a head of ``width`` but for feature extraction.
    """
    from tests.tiny_encoders import write_tokenizer

    write_tokenizer(folder, "minilm")
    hidden = width if task == "feature-extraction" else 8
    draw = np.random.default_rng(0)
    table = draw.standard_normal((512, hidden)).astype(np.float32)
    types = draw.standard_normal((2, hidden)).astype(np.float32)
    weights = {"table": table, "types": types}
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Gather", ["types", "token_type_ids"], ["kinds"]),
        helper.make_node("Add", ["words", "kinds"], ["both"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["both", "column"], ["kept"]),
        # Each token hears of those before it, so that their order counts.
        helper.make_node("CumSum", ["kept", "first"], ["heard"]),
        helper.make_node("Tanh", ["heard"], ["last_hidden_state"]),
    ]
    output = helper.make_tensor_value_info(
        "last_hidden_state", TensorProto.FLOAT, [1, "tokens", hidden]
    )
    if task != "feature-extraction":
        weights["head"] = draw.standard_normal((hidden, width)).astype(np.float32)
        nodes += [
            helper.make_node("ReduceMean", ["last_hidden_state"], ["mean"], axes=[1], keepdims=0),
            helper.make_node("MatMul", ["mean", "head"], ["logits"]),
        ]
        output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, width])
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [1, "tokens"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    constants.append(numpy_helper.from_array(np.array([-1], np.int64), "last"))
    constants.append(numpy_helper.from_array(np.array(1, np.int64), "first"))
    graph = helper.make_graph(nodes, "graph", inputs, [output], constants)
    (folder / "onnx").mkdir()
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), folder / MODEL)
    (folder / "config.json").write_text(json.dumps({"pad_token_id": 0}))
    write_manifest(folder)
    manifest = json.loads((folder / "edgepeft.json").read_text())
    del manifest["result"]["prompt"]
    manifest["result"] |= {
        "task": task,
        "vocab_size": 512,
        "runtimes": ["onnxruntime"],
        "target": "cpu-fp32",
        **result,
    }
    (folder / "edgepeft.json").write_text(json.dumps(manifest))
    return folder
