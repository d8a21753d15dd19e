"""Headers of safetensors files: the same as the library's, and refused wherever the library refuses."""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from edgepeft.errors import InputError
from edgepeft.models.safetensors_header import HEADER_BYTES, read_header


def test_it_reads_what_the_library_reads(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    tensors = {
        "matrix": torch.randn(3, 5),
        "half": torch.randn(7).to(torch.bfloat16),
        "scalar": torch.tensor(2, dtype=torch.int64),
        "nothing": torch.zeros(0, 4),
        "größe": torch.ones(2, dtype=torch.bool),
        "eight": torch.zeros(4, dtype=torch.float8_e4m3fn),
    }
    save_file(tensors, path, metadata={"format": "pt"})
    ours = read_header(path)
    with safe_open(path, framework="pt") as theirs:
        assert set(ours) == set(theirs.keys())
        for name in ours:
            part = theirs.get_slice(name)
            assert ours[name].shape == tuple(part.get_shape())
            assert ours[name].dtype == part.get_dtype()
    matrix = ours["matrix"]
    raw = path.read_bytes()[matrix.start : matrix.end]
    assert torch.frombuffer(bytearray(raw), dtype=torch.float32).equal(tensors["matrix"].flatten())


def entry(start: int = 0, end: int = 8, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def file(header: Any, data: bytes = b"\0" * 8, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


HOSTILE = {
    "overlapping": file({"a": entry(), "b": entry(4, 12)}, b"\0" * 12),
    "a hole": file({"a": entry(), "b": entry(12, 20)}, b"\0" * 20),
    "one over the other": file({"a": entry(), "b": entry()}),
    "beginning late": file({"a": entry(8, 16)}, b"\0" * 16),
    "more data than tensors": file({"a": entry()}, b"\0" * 9),
    "less data than tensors": file({"a": entry()}, b"\0" * 7),
    "a shape of other bytes": file({"a": entry(shape=(3,))}),
    "a shape beyond all bounds": file({"a": entry(shape=(1 << 62, 1 << 62))}),
    "a negative shape": file({"a": entry(shape=(-2, -1))}),
    "a shape of fractions": file({"a": entry(shape=(2.0,))}),
    "a shape of truth": file({"a": entry(shape=(True, 2))}),
    "offsets backwards": file({"a": entry(8, 0)}),
    "an unknown type": file({"a": entry(dtype="F77")}),
    "a type that is none": file({"a": entry(dtype=["F32"])}),
    "no offsets": file({"a": {"dtype": "F32", "shape": [2]}}),
    "an entry that is a list": file({"a": [1]}),
    "a name twice": file(
        b'{"a": %b, "a": %b}' % ((json.dumps(entry()).encode(),) * 2),
    ),
    "a header of 2^62": file({"a": entry()}, length=1 << 62),
    "a header beyond the limit": file(b"{}" + b" " * HEADER_BYTES, b""),
    "deep": file(b"[" * 200_000, b""),
    "no JSON": file(b"{" * 16, b""),
    "no text": file(b"\xff\xfe{}", b""),
    "a list": file([]),
    "empty": b"",
}
OURS_ALONE = {"a name twice", "a header beyond the limit"}
"""The library lets the second tensor of a name win, and reads headers of four times our limit."""


@pytest.mark.parametrize("what", HOSTILE)
def test_what_breaks_the_format_is_refused_here_as_by_the_library(
    tmp_path: Path, what: str
) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(HOSTILE[what])
    started = time.process_time()
    with pytest.raises(InputError, match=r"odd\.safetensors: not a readable safetensors file"):
        read_header(path)
    assert time.process_time() - started < 5
    if what not in OURS_ALONE:
        with pytest.raises((SafetensorError, OSError)), safe_open(path, framework="pt"):
            pass


def test_many_names_twice_are_told_in_no_time(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    names = ",".join(f'"{number}":{{}}' for number in range(200_000))
    path.write_bytes(file(f'{{{names},"7":{{}}}}'.encode(), b""))
    started = time.process_time()
    with pytest.raises(InputError, match="7 is there twice"):
        read_header(path)
    assert time.process_time() - started < 5


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a pipe, not a file"):
        read_header(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a device, not a file"):
        read_header(Path("/dev/zero"))
