"""Rotary tables computed as a session opens, against the same bundle with them stored, as graph builders do it.

python benchmarks/rotary_tables.py BUNDLE [--rounds 5]

Bytes of the graph, seconds to open it with onnxruntime and peak memory, each in processes that take turns.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

_OPEN = """
import resource, sys, time
import onnxruntime
started = time.perf_counter()
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
_MAKERS = ("Range", "Unsqueeze", "Mul", "Cos", "Sin", "Cast", "Constant")


def store_tables(graph: Path, out: Path) -> Path:
    """Write a graph's twin into ``out`` whose tables are initializers."""
    model = onnx.load(graph)
    nodes = {name: node for node in model.graph.node for name in node.output}
    tables = sorted(
        {
            name
            for node in model.graph.node
            for name in node.input
            if name.startswith("/model/rotary") and not node.name.startswith("/model/rotary")
        }
    )
    makers: list[onnx.NodeProto] = []

    def collect(name: str) -> None:
        node = nodes.get(name)
        if node is not None and node not in makers:
            assert node.op_type in _MAKERS, node.op_type
            for above in node.input:
                collect(above)
            makers.append(node)

    for table in tables:
        collect(table)
    needed = {name for node in makers for name in node.input}
    kept = [one for one in model.graph.initializer if one.name in needed]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tables]
    part = helper.make_model(
        helper.make_graph(makers, "tables", [], outputs, kept), opset_imports=model.opset_import
    )
    part.ir_version = model.ir_version
    values = onnxruntime.InferenceSession(part.SerializeToString()).run(None, {})
    for name, value in zip(tables, values, strict=True):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    for node in makers:
        if node.op_type != "Constant":
            model.graph.node.remove(node)
    target = out / graph.name
    onnx.save(model, target, save_as_external_data=True, location=f"{graph.name}_data")
    return target


def main() -> None:
    """Compare the two and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    (graph,) = (options.bundle / "onnx").glob("*.onnx")
    with tempfile.TemporaryDirectory(dir=options.bundle.parent) as folder:
        graphs = {"stored": store_tables(graph, Path(folder)), "computed": graph}
        seen: dict[str, list[tuple[float, ...]]] = {name: [] for name in graphs}
        for _ in range(options.rounds + 1):
            for name, path in graphs.items():
                command = [sys.executable, "-c", _OPEN, str(path)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                seen[name].append(tuple(map(float, done.stdout.split())))
        medians = {
            name: [statistics.median(column) for column in zip(*runs[1:], strict=True)]
            for name, runs in seen.items()
        }
        for name, path in graphs.items():
            size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
            medians[name].insert(0, size / 1e6)
    for index, measure in enumerate(("MB of graph and weights", "s to open", "MB at the peak")):
        stored, computed = (medians[name][index] for name in ("stored", "computed"))
        ratio = computed / stored
        print(f"{measure:<24} stored {stored:8.2f}  computed {computed:8.2f}  ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
