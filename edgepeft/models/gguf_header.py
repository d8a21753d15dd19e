"""The header of a GGUF file, read within limits: counts, lengths and offsets are held against the file's size.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The gguf library's reader believes what a
file says of itself; here a count that is out of reach is refused before anything is looped over or allocated
for it.
"""

from __future__ import annotations

import itertools
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepeft.errors import InputError, MissingError
from edgepeft.utils.files import require_regular

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_PAIRS, _TENSORS, _ELEMENTS, _DIMENSIONS = 1 << 16, 1 << 18, 1 << 23, 4
"""The most entries of metadata, tensors, elements of an array and dimensions of a tensor that are read."""
_TEXT_BYTES = 1 << 24
_SCALARS = {
    **{0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?"},
    **{10: "<Q", 11: "<q", 12: "<d"},
}
_STRING, _ARRAY = 8, 9
TOKENS = "tokenizer.ggml.tokens"


@dataclass(frozen=True)
class GgufTensor:
    """A tensor of a GGUF file: its shape as torch counts it, the slowest dimension first, and its type's name."""

    shape: tuple[int, ...]
    dtype: str
    elements: int


@dataclass(frozen=True)
class GgufHeader:
    """Scalar metadata by key, the vocabulary in the order of its ids, and the tensors by name."""

    fields: Mapping[str, Any]
    tokens: tuple[str, ...]
    tensors: Mapping[str, GgufTensor]


def read_gguf_header(path: Path) -> GgufHeader:
    """Read what a GGUF file says of itself. Raises InputError; MissingError without the gguf library."""
    require_regular(path)
    try:
        with (
            path.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return _Header(data).read()
    except (OSError, ValueError, struct.error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable GGUF file ({error})") from None


def is_gguf(path: Path) -> bool:
    """Whether a file begins as GGUF files do, whatever its name: a hub's cache names files by their hash."""
    try:
        with path.open("rb") as stream:
            return path.is_file() and stream.read(4) == MAGIC
    except OSError:
        return False


class _Header:
    """A place in the mapped file that moves on with what is read. Methods raise ValueError, struct.error."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def read(self) -> GgufHeader:
        if self._bytes(4) != MAGIC:
            raise ValueError("it does not begin with GGUF")
        version = self._number("<I")
        if version not in _VERSIONS:
            raise ValueError(f"version {version}; {' and '.join(map(str, _VERSIONS))} are read")
        tensors = self._count("<Q", _TENSORS, "tensors")
        pairs = self._count("<Q", _PAIRS, "entries of metadata")
        fields: dict[str, Any] = {}
        tokens: tuple[str, ...] = ()
        for _ in range(pairs):
            key = self._text()
            if key in fields:
                raise ValueError(f"{key} is there twice")
            kind = self._number("<I")
            fields[key] = None
            if kind == _ARRAY:
                found = self._array(keep=key == TOKENS)
                tokens = found or tokens
            else:
                fields[key] = self._value(kind)
        named = [self._tensor() for _ in range(tensors)]
        scalars = {key: value for key, value in fields.items() if value is not None}
        return GgufHeader(scalars, tokens, self._checked(named, scalars))

    def _checked(
        self, named: list[tuple[str, tuple[int, ...], int, int]], fields: Mapping[str, Any]
    ) -> dict[str, GgufTensor]:
        """Hold every tensor's offset and size against the file and against the others."""
        types = _tensor_types()
        alignment = fields.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 8 or alignment & (alignment - 1):
            raise ValueError(f"general.alignment: {alignment} is no power of two from 8 up")
        start = -(-self._at // alignment) * alignment
        found: dict[str, GgufTensor] = {}
        places: list[tuple[int, int, str]] = []
        for name, shape, kind, offset in named:
            if name in found:
                raise ValueError(f"{name} is there twice")
            if kind not in types:
                raise ValueError(f"{name} has the unknown type {kind}")
            if offset % alignment:
                raise ValueError(f"{name} begins at {offset}, no multiple of {alignment}")
            dtype, block, size = types[kind]
            elements = 1
            for length in shape:
                elements *= length
            if shape[0] % block:
                raise ValueError(f"{name}: rows of {shape[0]} are no multiple of {dtype}'s {block}")
            end = start + offset + elements // block * size
            if end > len(self._data):
                raise ValueError(f"{name} ends at byte {end}, the file at {len(self._data)}")
            places.append((start + offset, end, name))
            found[name] = GgufTensor(tuple(reversed(shape)), dtype, elements)
        places.sort()
        for (_, end, name), (begin, _, other) in itertools.pairwise(places):
            if begin < end:
                raise ValueError(f"{other} lies over {name}")
        return found

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._text()
        dimensions = self._count("<I", _DIMENSIONS, f"dimensions of {name}")
        shape = tuple(self._number("<Q") for _ in range(dimensions))
        if not shape or 0 in shape:
            raise ValueError(f"{name} has the shape {shape}, which holds nothing")
        return name, shape, self._number("<I"), self._number("<Q")

    def _array(self, *, keep: bool) -> tuple[str, ...]:
        """Read over an array; its texts where ``keep`` says so."""
        kind = self._number("<I")
        count = self._count("<Q", _ELEMENTS, "elements of an array")
        if kind == _STRING:
            if keep:
                return tuple(self._text() for _ in range(count))
            for _ in range(count):
                self._bytes(self._number("<Q"))
            return ()
        if kind not in _SCALARS:
            raise ValueError(f"an array of the unknown type {kind}")
        self._skip(count * struct.calcsize(_SCALARS[kind]))
        return ()

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind not in _SCALARS:
            raise ValueError(f"metadata of the unknown type {kind}")
        return self._number(_SCALARS[kind])

    def _count(self, form: str, most: int, what: str) -> int:
        count: int = self._number(form)
        if count > most:
            raise ValueError(f"{count} {what}, of which at most {most} are read")
        return count

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._bytes(struct.calcsize(form)))[0]

    def _text(self) -> str:
        return self._bytes(self._number("<Q")).decode("utf-8", "surrogateescape")

    def _bytes(self, count: int) -> bytes:
        if count > _TEXT_BYTES:
            raise ValueError(f"a text of {count} bytes, of which at most {_TEXT_BYTES} are read")
        begin = self._at
        self._skip(count)
        return self._data[begin : self._at]

    def _skip(self, count: int) -> None:
        if self._at + count > len(self._data):
            raise ValueError("it ends before its header does")
        self._at += count


def _tensor_types() -> dict[int, tuple[str, int, int]]:
    """Name, elements of a block and bytes of a block by the number of a tensor's type."""
    try:
        from gguf.constants import GGML_QUANT_SIZES
    except ImportError:
        raise MissingError("reading GGUF needs gguf: pip install 'edgepeft[train]'") from None
    return {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
