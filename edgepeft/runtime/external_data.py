"""Which files an ONNX graph pulls its weights from, read without the onnx package.

A device has no onnx package, yet must know before loading a graph which paths that graph makes
onnxruntime open. This walks the protobuf wire format down to every tensor's ``external_data`` and
nothing else: tensors held inline are stepped over by their length, and the data files themselves
are never opened.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

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

_MAX_DEPTH = 64
_KEY, _VALUE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class _Malformed(Exception):
    """The bytes are not the protobuf they should be; the argument says how."""


def external_locations(model_file: Path) -> frozenset[str]:
    """The ``location`` of every externally stored tensor of ``model_file``, as the graph spells it.

    Raises InputError when the file is empty or not a well-formed ONNX model: what cannot be read
    here cannot be vouched for.
    """
    try:
        with (
            model_file.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return _locations(data)
    except (_Malformed, ValueError) as error:
        raise InputError(
            f"{model_file}: not a well-formed ONNX model ({error}); copy or build the bundle again"
        ) from None
    except OSError as error:
        raise InputError(f"{model_file}: cannot be read ({error.strerror})") from None


def _locations(data: mmap.mmap) -> frozenset[str]:
    found: set[str] = set()
    graphs = 0
    # An explicit stack, so that a graph nested to exhaust Python's own is refused instead.
    pending: list[tuple[str, int, int, int]] = [("ModelProto", 0, len(data), 0)]
    while pending:
        message, start, end, depth = pending.pop()
        if depth > _MAX_DEPTH:
            raise _Malformed(f"graphs nested deeper than {_MAX_DEPTH} messages")
        if message == "StringStringEntryProto":
            found.update(_location(data, start, end))
            continue
        graphs += message == "GraphProto"
        children = TENSOR_PATHS[message]
        for field, first, last in _submessages(data, start, end):
            child = children.get(field)
            if child is not None:
                pending.append((child, first, last, depth + 1))
    if not graphs:
        raise _Malformed("no graph in it")
    return frozenset(found)


def _location(data: mmap.mmap, start: int, end: int) -> Iterator[str]:
    # A repeated field overrides an earlier one in protobuf; yielding every value only refuses more.
    keys: list[bytes] = []
    values: list[bytes] = []
    for field, first, last in _submessages(data, start, end):
        if field == _KEY:
            keys.append(data[first:last])
        elif field == _VALUE:
            values.append(data[first:last])
    if b"location" in keys:
        for value in values:
            yield value.decode("utf-8", "surrogateescape")


def _submessages(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (field number, first byte, end) of each length-delimited field between two offsets."""
    at = start
    while at < end:
        tag, at = _varint(data, at, end, 5)
        field, wire = tag >> 3, tag & 7
        if field == 0:
            raise _Malformed(f"field number 0 at byte {at}")
        if wire == _BYTES:
            size, at = _varint(data, at, end, 5)
            if size > end - at:
                raise _Malformed(f"a field runs past its end at byte {at}")
            yield field, at, at + size
            at += size
        elif wire == _VARINT:
            _, at = _varint(data, at, end, 10)
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
            if at > end:
                raise _Malformed(f"a field runs past its end at byte {at}")
        else:
            raise _Malformed(f"wire type {wire} at byte {at}")


def _varint(data: mmap.mmap, at: int, end: int, most: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * most, 7):
        if at >= end:
            raise _Malformed("it ends in the middle of a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Malformed(f"a number longer than {most} bytes at byte {at}")
