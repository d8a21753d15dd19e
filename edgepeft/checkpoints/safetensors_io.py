"""Safetensors checkpoints: reading them lazily, writing them one tensor at a time.

The format is a little-endian header length, a JSON header and the raw bytes
(https://github.com/huggingface/safetensors#format). The library's writer wants every tensor of a file in memory
at once; ours drains a source, so the header is written first from the specs.
"""

from __future__ import annotations

import contextlib
import copy
import json
import struct
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from edgepeft.checkpoints.source import TensorSource, TensorSpec
from edgepeft.errors import InputError
from edgepeft.events import Events
from edgepeft.models.safetensors_header import StoredTensor, read_header

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_ROWS_AT_ONCE = 4096
SHARD_BYTES = 5 * 10**9
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


class SafetensorsSource:
    """The tensors of one or several safetensors files, each read on demand."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        """``files`` maps each tensor's name to the file that holds it. Raises InputError."""
        self._files = dict(files)
        self._specs: dict[str, TensorSpec] = {}
        headers = {path: read_header(path) for path in dict.fromkeys(self._files.values())}
        for name, path in self._files.items():
            self._specs[name] = _spec(headers[path], name, path)
        self._stored = {name: name for name in self._files}

    @classmethod
    def from_folder(cls, folder: Path) -> SafetensorsSource:
        """Open a checkpoint folder, sharded or not. Raises InputError naming the file that is wrong."""
        index = folder / INDEX
        if index.is_file():
            try:
                weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
                files = {str(name): folder / str(file) for name, file in weight_map.items()}
            except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
                raise InputError(f"{index}: not a safetensors index (no weight_map)") from None
            for path in sorted(set(files.values())):
                if path.parent != folder or not path.is_file():
                    raise InputError(f"{index}: names {path.name}, which is not in the folder")
            return cls(files)
        single = folder / SINGLE
        if not single.is_file():
            raise InputError(f"{folder}: holds neither {SINGLE} nor {INDEX}")
        return cls.from_file(single)

    @classmethod
    def from_file(cls, path: Path) -> SafetensorsSource:
        """Open one safetensors file. Raises InputError."""
        return cls(dict.fromkeys(sorted(read_header(path)), path))

    def named(self, names: Mapping[str, str]) -> SafetensorsSource:
        """The tensors of this source that ``names`` maps new names to, in that order."""
        chosen = copy.copy(self)
        chosen._files = {name: self._files[old] for name, old in names.items()}
        chosen._specs = {name: self._specs[old] for name, old in names.items()}
        chosen._stored = {name: self._stored[old] for name, old in names.items()}
        return chosen

    def without(self, left_out: Collection[str]) -> SafetensorsSource:
        """The same source without some of its tensors."""
        return self.named({name: name for name in self._specs if name not in set(left_out)})

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Spec of every tensor, by name for one file, in the index's order for several."""
        return self._specs

    def load(self, name: str) -> torch.Tensor:
        """Read one tensor into memory of its own, in the file's shape and dtype. Raises KeyError."""
        # Pages of a mapping stay resident for as long as it is open, so none is kept between tensors.
        with _opened(self._files[name]) as handle:
            tensor: torch.Tensor = handle.get_tensor(self._stored[name]).clone()
        return tensor

    def mapped(self, name: str) -> torch.Tensor:
        """One tensor over the file's own pages, which the system may drop and read again.

        It has the file's shape and dtype. Raises KeyError.
        """
        with _opened(self._files[name]) as handle:
            tensor: torch.Tensor = handle.get_tensor(self._stored[name])
        return tensor

    def rows(self, name: str, indices: Sequence[int] | None) -> torch.Tensor:
        """Some rows of a tensor, or all of it for None, without reading the others.

        [len(indices), ...] in the file's dtype, in the order of ``indices``. Raises KeyError.
        """
        if indices is None:
            return self.load(name)
        with _opened(self._files[name]) as handle:
            part = handle.get_slice(self._stored[name])
            return torch.cat([part[index : index + 1].clone() for index in indices])

    def row_range(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows from ``start`` to ``stop`` of a tensor, without reading the others. Raises KeyError."""
        with _opened(self._files[name]) as handle:
            part: torch.Tensor = handle.get_slice(self._stored[name])[start:stop].clone()
        return part

    def same(self, first: str, second: str) -> bool:
        """Whether two tensors hold the same bytes, read some rows at a time. Raises KeyError."""
        spec = self._specs[first]
        if spec != self._specs[second]:
            return False
        rows = spec.shape[0] if spec.shape else 1
        with _opened(self._files[first]) as one, _opened(self._files[second]) as other:
            a, b = (h.get_slice(self._stored[n]) for h, n in ((one, first), (other, second)))
            return all(
                torch.equal(a[i : i + _ROWS_AT_ONCE], b[i : i + _ROWS_AT_ONCE])
                for i in range(0, rows, _ROWS_AT_ONCE)
            )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as handle:
            yield handle
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from None


def _spec(header: Mapping[str, StoredTensor], name: str, path: Path) -> TensorSpec:
    if name not in header:
        raise InputError(f"{path}: lacks {name}, which {INDEX} says it holds")
    stored = header[name]
    if stored.dtype not in _DTYPES:
        raise InputError(f"{path}: {name} has dtype {stored.dtype}, which edgepeft does not read")
    return TensorSpec(stored.shape, _DTYPES[stored.dtype])


def write_checkpoint(
    source: TensorSource,
    folder: Path,
    *,
    events: Events | None = None,
    stem: str = "model",
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Drain ``source`` into ``folder`` as ``model.safetensors``, or as shards with an index when it is large."""
    shards: list[dict[str, TensorSpec]] = [{}]
    size = 0
    for name, spec in source.specs.items():
        if shards[-1] and size + spec.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = spec
        size += spec.nbytes
    total = len(source.specs)
    done = 0
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = (
            f"{stem}.safetensors"
            if len(shards) == 1
            else f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors"
        )
        weight_map.update(dict.fromkeys(shard, file))
        with (folder / file).open("wb") as stream:
            stream.write(_header(shard))
            for name in shard:
                # The buffer protocol writes from the tensor's own memory, without a copy of it.
                stream.write(memoryview(_as_bytes(source.load(name)).numpy()))
                done += 1
                if events is not None:
                    events.progress(done, total, tensor=name)
    if len(shards) > 1:
        total_size = sum(spec.nbytes for spec in source.specs.values())
        index = {"metadata": {"total_size": total_size}, "weight_map": weight_map}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def rewrite_checkpoint(source: TensorSource, folder: Path) -> None:
    """Put ``source``, which may read from the checkpoint in ``folder``, in that checkpoint's place."""
    beside = Path(tempfile.mkdtemp(dir=folder))
    write_checkpoint(source, beside)
    for file in folder.glob("model*.safetensors*"):
        file.unlink()
    for file in beside.iterdir():
        file.replace(folder / file.name)
    beside.rmdir()


def _as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _header(specs: Mapping[str, TensorSpec]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, spec in specs.items():
        entries[name] = {
            "dtype": _NAMES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [offset, offset + spec.nbytes],
        }
        offset += spec.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
