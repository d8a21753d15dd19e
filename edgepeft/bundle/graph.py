"""What an ONNX graph would have onnxruntime do, read without the onnx package and before onnxruntime sees it.

A device has no onnx package, yet must know which files a graph makes onnxruntime open and whether what it
declares can be. This walks the protobuf wire format down to every node's operator and every tensor; tensors
held inline are stepped over by their length, and the data files themselves are never opened.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from edgepeft.bundle.files import (
    AGAIN,
    DISTRUST,
    Outputs,
    open_regular,
    regular_file,
    require_inside,
    require_listed,
)
from edgepeft.bundle.wire import Malformed, fields, varint
from edgepeft.errors import InputError

TENSOR_PATHS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
"""Message to field number to message: every way from a model down to a tensor's external data."""

DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft"))
"""Where operators may come from: ONNX itself and onnxruntime. Any other needs a library of somebody's."""

REFUSED: Mapping[str, str] = {
    "EPContext": "loads what a provider compiled elsewhere, from a path of its own",
    "PythonOp": "calls Python functions by name",
    "PythonOpGrad": "calls Python functions by name",
    "ATen": "calls functions of torch by name",
    **dict.fromkeys(("Loop", "Scan"), "computes for as long as the graph says"),
    **dict.fromkeys(
        ("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"),
        "decodes inside the graph, as long as the graph says",
    ),
}
"""Operators that no graph of edgepeft's has, and why a bundle with one is refused."""

_UNWRITTEN = {
    "FunctionProto": "functions, which may call each other without end",
    "SparseTensorProto": "sparse tensors, whose full size nothing bounds",
    "TrainingInfoProto": "a training graph",
}
"""Parts of the format that no graph of edgepeft's has."""

_MAX_DEPTH = 64
_MAX_FIELDS = 1_000_000
"""Fields of all messages together; the graph of a model of a hundred layers has some hundred thousand."""
_MAX_DIMS = 64
_MAX_NAME = 65_536
_BITS = {
    **dict.fromkeys((7, 11, 13, 14), 64),  # int64, double, uint64, complex64
    **dict.fromkeys((1, 6, 12), 32),  # float, int32, uint32
    **dict.fromkeys((4, 5, 10, 16), 16),  # uint16, int16, float16, bfloat16
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),  # uint8, int8, bool and the kinds of float8
    **dict.fromkeys((21, 22, 23), 4),  # uint4, int4, float4
    **dict.fromkeys((25, 26), 2),  # uint2, int2
    15: 128,  # complex128
}
"""Bits of an element by ONNX's number for its type; strings have none."""
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class External:
    """Where a tensor's data lies outside the graph; ``size`` is what its shape and type come to, in bytes."""

    tensor: str
    location: str
    offset: int
    length: int | None
    size: int | None


@dataclass
class Contents:
    """What a graph names: external data, operators as (domain, name), and parts of the format that it uses."""

    externals: list[External] = field(default_factory=list)
    operators: set[tuple[str, str]] = field(default_factory=set)
    parts: set[str] = field(default_factory=set)


def examine(model_file: Path) -> Contents:
    """Walk ``model_file``.

    Raises InputError when the file is empty or not a well-formed ONNX model, or a tensor in it has other bytes
    than its shape and type come to: what cannot be read here cannot be vouched for.
    """
    try:
        with (
            open_regular(model_file) as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return _walk(data)
    except (Malformed, ValueError) as error:
        raise InputError(f"{model_file}: not a well-formed ONNX model ({error}); {AGAIN}") from None


def external_locations(model_file: Path) -> frozenset[str]:
    """The ``location`` of every externally stored tensor, as the graph spells it. Raises as ``examine``."""
    return frozenset(external.location for external in examine(model_file).externals)


def vouch_for_graph(root: Path, name: str, outputs: Outputs, manifest: Path) -> None:
    """Refuse a graph that is not wholly made of listed files lying in its own folder, or that has in it what no
    graph of edgepeft's has. Raises InputError.
    """
    require_inside(name, manifest)
    if not name.endswith(".onnx"):
        # By another suffix onnxruntime reads another format, which nothing here examined.
        raise InputError(f"{manifest}: the graph {name!r} must be an .onnx file; {AGAIN}")
    require_listed(name, outputs, manifest)
    regular_file(root, name)
    contents = examine(root / name)
    for part in sorted(contents.parts & set(_UNWRITTEN)):
        raise InputError(f"{root / name}: has {_UNWRITTEN[part]}; {DISTRUST}")
    for domain, operator in sorted(contents.operators):
        _refuse_operator(root / name, domain, operator)
    for external in contents.externals:
        _vouch_for_data(root, name, external, outputs, manifest)


def _refuse_operator(where: Path, domain: str, operator: str) -> None:
    if domain not in DOMAINS:
        raise InputError(
            f"{where}: the operator {operator!r} is of {domain!r}, neither ONNX's nor onnxruntime's; {DISTRUST}"
        )
    if operator in REFUSED:
        raise InputError(f"{where}: the operator {operator} {REFUSED[operator]}; {DISTRUST}")


def _vouch_for_data(
    root: Path, name: str, external: External, outputs: Outputs, manifest: Path
) -> None:
    if not _PLAIN_NAME.fullmatch(external.location):
        raise InputError(
            f"{root / name}: takes weights from {external.location!r}, not a file beside it; {DISTRUST}"
        )
    beside = str(PurePosixPath(name).parent / external.location)
    require_listed(beside, outputs, manifest)
    held = regular_file(root, beside).st_size
    wanted = external.length if external.length is not None else external.size
    if external.offset + (wanted or 0) > held or (
        None not in (external.length, external.size) and external.length != external.size
    ):
        raise InputError(
            f"{root / name}: the tensor {external.tensor!r} is {external.size} bytes and takes {wanted} from "
            f"{external.offset} on of {external.location}, which has {held}; {AGAIN}"
        )


def _walk(data: mmap.mmap) -> Contents:
    found = Contents()
    # An explicit stack, so that a graph nested to exhaust Python's own is refused instead.
    pending: list[tuple[str, int, int, int]] = [("ModelProto", 0, len(data), 0)]
    seen = 0
    while pending:
        message, start, end, depth = pending.pop()
        if depth > _MAX_DEPTH:
            raise Malformed(f"graphs nested deeper than {_MAX_DEPTH} messages")
        found.parts.add(message)
        if message == "TensorProto":
            found.externals += _tensor(data, start, end)
            continue
        children = TENSOR_PATHS[message]
        named = {4: "", 7: ""}
        for one in fields(data, start, end):
            seen += 1
            if seen > _MAX_FIELDS:
                raise Malformed(f"more than {_MAX_FIELDS} fields")
            child = children.get(one.number)
            if one.start < 0:
                continue
            if child is not None:
                pending.append((child, one.start, one.end, depth + 1))
            elif message == "NodeProto" and one.number in named:
                named[one.number] = _text(data, one.start, one.end)
        if message == "NodeProto":
            found.operators.add((named[7], named[4]))
    if "GraphProto" not in found.parts:
        raise Malformed("no graph in it")
    return found


def _tensor(data: mmap.mmap, start: int, end: int) -> list[External]:
    """Where a tensor takes its data from outside, if it does. Raises Malformed for one whose bytes can't be
    its own.
    """
    dims: list[int] = []
    kind, name, raw, typed = 0, "", -1, 0
    entries: dict[str, list[str]] = {}
    for one in fields(data, start, end):
        inline = max(one.end - one.start, 0)
        if one.number == 1 and len(dims) <= _MAX_DIMS:
            dims += _packed(data, one.start, one.end) if one.start >= 0 else [one.value]
        elif one.number == 2:
            kind = one.value
        elif one.number == 8 and inline:
            name = _text(data, one.start, one.end)
        elif one.number == 9:
            raw = inline
        elif one.number == 13:
            key, value = _entry(data, one.start, one.end)
            entries.setdefault(key, []).append(value)
        elif one.number in (4, 5, 6, 7, 10, 11):
            typed += inline or 8
    if len(dims) > _MAX_DIMS:
        raise Malformed(f"a tensor of more than {_MAX_DIMS} dimensions")
    size = _size(dims, kind, name)
    if "location" in entries:
        # A repeated field overrides an earlier one in protobuf; naming every value only refuses more.
        offset = _whole(entries.get("offset", ["0"]), name)
        length = _whole(entries["length"], name) if "length" in entries else None
        return [External(name, place, offset, length, size) for place in entries["location"]]
    if raw >= 0 and size is not None and raw != size:
        raise Malformed(f"the tensor {name!r} of {size} bytes has {raw}")
    # A number of a typed field takes a byte at least, and carries four elements of two bits at most.
    if raw < 0 and size is not None and math.prod(dims) > 4 * typed:
        raise Malformed(f"the tensor {name!r} of {size} bytes has no data")
    return []


def _size(dims: list[int], kind: int, name: str) -> int | None:
    """Bytes that a shape and a type come to; None for a type that has no fixed size."""
    if any(dim >= 1 << 48 for dim in dims):
        raise Malformed(f"the tensor {name!r} has a dimension that can't be")
    return None if kind not in _BITS else (math.prod(dims) * _BITS[kind] + 7) // 8


def _packed(data: mmap.mmap, start: int, end: int) -> list[int]:
    found: list[int] = []
    while start < end and len(found) <= _MAX_DIMS:
        value, start = varint(data, start, end, 10)
        found.append(value)
    return found


def _entry(data: mmap.mmap, start: int, end: int) -> tuple[str, str]:
    parts = {1: "", 2: ""}
    for one in fields(data, start, end):
        if one.number in parts and one.start >= 0:
            parts[one.number] = _text(data, one.start, one.end)
    return parts[1], parts[2]


def _whole(digits: list[str], name: str) -> int:
    if not all(text.isascii() and text.isdecimal() and len(text) < 20 for text in digits):
        raise Malformed(f"the tensor {name!r} lies at {digits[0][:40]!r}")
    return max(map(int, digits))


def _text(data: mmap.mmap, start: int, end: int) -> str:
    if end - start > _MAX_NAME:
        raise Malformed(f"a name of {end - start} bytes")
    return data[start:end].decode("utf-8", "surrogateescape")
