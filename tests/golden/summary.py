"""What a stage has made, as one flat mapping of paths that a reader understands to values that machines share.

Values are JSON scalars, compared as they are if whole numbers or text, within a tolerance if fractions; or what
`of_tensor` says of a tensor. Left out is whatever tells of the machine, the moment or the version of a library.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

Summary = dict[str, Any]
_SAMPLES = 8
_LONG = 8
_LEFT_OUT = re.compile(
    # when and how fast
    r"(seconds|runtime|per_second|created)"
    # on what machine
    r"|^(threads|peak_memory_bytes)$"
    # by which library
    r"|^(transformers|peft)_version$"
    # digests of floats that were computed: one last bit changes all of it
    r"|^binding$"
)
_SEALED = ("README.md", "fidelity.json")
"""Put into a bundle by sealing, which is no stage."""


def of_stage(folder: Path, root: Path) -> Summary:
    """Summarize a finished stage's folder; places below ``root`` are written relative to it."""
    manifest = json.loads((folder / "edgepeft.json").read_text(encoding="utf-8"))
    found: Summary = {}
    for name in sorted(manifest["outputs"]):
        if name in _SEALED:
            continue
        file = folder / name
        if file.suffix == ".json":
            content = json.loads(file.read_text(encoding="utf-8"))
            found |= _of_json(name, content, root)
        elif file.suffix == ".safetensors":
            found |= _of_tensors(name, _safetensors(file))
        elif file.suffix == ".onnx_adapter":
            found |= _of_tensors(name, _onnx_adapter(file))
        elif file.suffix == ".onnx":
            found |= _of_graph(name, file)
        elif file.suffix == ".onnx_data":
            found[name] = "the graph's tensors"
        else:
            found[name] = _digest(file.read_bytes())
    return found | dict(_flat("result", manifest["result"], root))


def of_tensor(tensor: np.ndarray) -> dict[str, Any]:
    """Dtype and shape, mean, root mean square and a few evenly spaced values of a tensor of any shape."""
    shape = ",".join(map(str, tensor.shape))
    kind = f"{tensor.dtype}[{shape}]"
    if tensor.dtype.kind not in "fiub" or not tensor.size:
        return {"kind": kind}
    values = tensor.astype(np.float64).ravel()
    places = np.unique(np.linspace(0, values.size - 1, _SAMPLES).astype(int))
    return {
        "kind": kind,
        "mean": _short(values.mean()),
        "rms": _short(np.sqrt(np.mean(values**2))),
        "values": [_short(value) for value in values[places]],
    }


def _of_json(name: str, content: Any, root: Path) -> Summary:
    # A tokenizer is a long list of words, none of which is computed.
    if name.endswith("tokenizer.json"):
        return {name: _digest(json.dumps(content, sort_keys=True).encode())}
    return dict(_flat(name, content, root))


def _flat(path: str, value: Any, root: Path) -> Iterator[tuple[str, Any]]:
    """A JSON value's scalars under their paths; a long list of whole numbers is its digest."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not _LEFT_OUT.search(key):
                yield from _flat(
                    f"{path}: {key}" if ": " not in path else f"{path}.{key}", inner, root
                )
    elif isinstance(value, list) and value:
        # PEFT keeps these in a set, whose order is another one in every process.
        value = sorted(value) if path.endswith("target_modules") else value
        if len(value) > _LONG and all(type(item) is int for item in value):
            yield path, f"{len(value)} numbers, {_digest(json.dumps(value).encode())}"
        else:
            for index, item in enumerate(value):
                yield from _flat(f"{path}[{index}]", item, root)
    elif isinstance(value, str):
        yield path, value.replace(str(root), "ROOT")
    else:
        yield path, _short(value) if isinstance(value, float) else value


def _of_tensors(name: str, tensors: dict[str, np.ndarray]) -> Summary:
    """Tensors by name; of an adapter's two factors, which any rotation leaves alike, their product."""
    found: Summary = {}
    for key, tensor in sorted(tensors.items()):
        if key.endswith("lora_A.weight"):
            other = key.replace("lora_A", "lora_B")
            found[f"{name}: {key.replace('lora_A', 'lora_B·lora_A')}"] = of_tensor(
                tensors[other] @ tensor
            )
            found |= {
                f"{name}: {part}": {"kind": of_tensor(tensors[part])["kind"]}
                for part in (key, other)
            }
        elif not key.endswith("lora_B.weight"):
            found[f"{name}: {key}"] = of_tensor(tensor)
    return found


def _safetensors(file: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return dict(load_file(file))


def _onnx_adapter(file: Path) -> dict[str, np.ndarray]:
    import onnxruntime

    made = onnxruntime.AdapterFormat.read_adapter(str(file))
    # A parameter's array is a view of memory that goes with the adapter.
    return {name: value.numpy().copy() for name, value in made.get_parameters().items()}


def _of_graph(name: str, file: Path) -> Summary:
    """A graph's inputs, outputs, tensors, and by operator: how many, with which attributes, wired how."""
    import onnx_ir

    model = onnx_ir.load(file)
    found: Summary = {
        f"{name}: opset {domain or 'ai.onnx'}": version
        for domain, version in model.opset_imports.items()
    }
    graph = model.graph
    for what, values in (("input", graph.inputs), ("output", graph.outputs)):
        found |= {f"{name}: {what} {value.name}": f"{value.dtype}{value.shape}" for value in values}
    for key, value in sorted(graph.initializers.items()):
        if value.const_value is not None:
            found[f"{name}: tensor {key}"] = of_tensor(value.const_value.numpy())
    wires: dict[str, list[str]] = {}
    attributes: dict[str, Counter[str]] = {}
    for node in graph.all_nodes():
        operator = f"{name}: {node.op_type}"
        names = [
            [value.name if value else "" for value in side] for side in (node.inputs, node.outputs)
        ]
        wires.setdefault(operator, []).append(f"{node.name} {names}")
        for attribute in node.attributes.values():
            counted = attributes.setdefault(f"{operator}.{attribute.name}", Counter())
            counted[_attribute(attribute)] += 1
    for operator, lines in sorted(wires.items()):
        found[operator] = (
            f"{len(lines)} nodes, wired {_digest(chr(10).join(sorted(lines)).encode())}"
        )
    for key, counted in sorted(attributes.items()):
        found[key] = ", ".join(f"{value} ({count})" for value, count in sorted(counted.items()))
    return found


def _attribute(attribute: Any) -> str:
    value = attribute.value
    if hasattr(value, "numpy"):
        return json.dumps(of_tensor(value.numpy()))
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, tuple | list) and all(isinstance(item, float) for item in value):
        return str([f"{item:.5g}" for item in value])
    return str(value)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _short(value: float) -> float:
    return float(f"{value:.7g}")
