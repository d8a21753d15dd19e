"""The header of GGUF files against the library's reader, and what no honest file has."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepeft.errors import InputError
from edgepeft.models import find_model, inspect_model
from edgepeft.models.gguf_header import TOKENS, read_gguf_header
from tests.conftest import ModelMaker
from tests.tiny_gguf import write_tiny_gguf

gguf = pytest.importorskip("gguf")


@pytest.fixture
def whole(tiny_model: ModelMaker, tmp_path: Path) -> Path:
    return write_tiny_gguf(tiny_model("llama"), tmp_path / "whole.gguf")


def test_it_reads_what_the_library_reads(whole: Path) -> None:
    ours, theirs = read_gguf_header(whole), gguf.GGUFReader(whole)
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        assert mine.shape == tuple(reversed(tensor.shape.tolist()))
        assert (mine.dtype, mine.elements) == (tensor.tensor_type.name, tensor.n_elements)
    assert len(ours.tensors) == len(theirs.tensors)
    assert list(ours.tokens) == theirs.fields[TOKENS].contents()
    assert ours.fields["llama.block_count"] == 2
    assert ours.fields["tokenizer.chat_template"].startswith("{% for message")


def header(tensors: int = 0, pairs: int = 0, version: int = 3, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + rest


def text(value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(value) if length is None else length) + value


def tensor(name: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dims + struct.pack("<IQ", kind, offset)


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


ARRAY, STRING, UINT32 = 9, 8, 4
DATA = b"\0" * 256
HOSTILE = {
    "no magic": b"GGML" + b"\0" * 64,
    "another version": header(version=77, rest=DATA),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + DATA,
    "absurd count of tensors": header(tensors=1 << 60, rest=DATA),
    "absurd count of pairs": header(pairs=1 << 60, rest=DATA),
    "many pairs of nothing": header(pairs=60_000, rest=b"\0" * 200_000),
    "a key without end": header(pairs=1, rest=text(b"k", 1 << 62) + DATA),
    "a text beyond the limit": header(pairs=1, rest=pair(b"k", STRING, text(b"v", 1 << 40))),
    "an array of 2^60": header(
        pairs=1, rest=pair(b"k", ARRAY, struct.pack("<IQ", UINT32, 1 << 60))
    ),
    "an array of arrays": header(
        pairs=1, rest=pair(b"k", ARRAY, struct.pack("<IQ", ARRAY, 4) + DATA)
    ),
    "an unknown type": header(pairs=1, rest=pair(b"k", 99, DATA)),
    "a key twice": header(pairs=2, rest=pair(b"k", UINT32, b"\0" * 4) * 2 + DATA),
    "alignment of nothing": header(
        pairs=1, rest=pair(b"general.alignment", UINT32, struct.pack("<I", 0)) + DATA
    ),
    "a misaligned offset": header(tensors=1, rest=tensor(b"t", (4,), offset=3) + DATA),
    "an offset behind the end": header(tensors=1, rest=tensor(b"t", (4,), offset=1 << 40) + DATA),
    "more than the file holds": header(tensors=1, rest=tensor(b"t", (1 << 30, 1 << 30)) + DATA),
    "no elements": header(tensors=1, rest=tensor(b"t", (0, 4)) + DATA),
    "too many dimensions": header(tensors=1, rest=tensor(b"t", (1,) * 9) + DATA),
    "half a block": header(tensors=1, rest=tensor(b"t", (33,), kind=2) + DATA),
    "a tensor twice": header(tensors=2, rest=tensor(b"t", (4,)) * 2 + DATA),
    "one over the other": header(
        tensors=2, rest=tensor(b"t", (16,)) + tensor(b"u", (16,), offset=32) + DATA
    ),
    "an unknown kind of tensor": header(tensors=1, rest=tensor(b"t", (4,), kind=999) + DATA),
    "cut short": header(tensors=3, rest=tensor(b"t", (4,))),
    "empty": b"",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_honest_file_has_is_refused_at_once(tmp_path: Path, what: str) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(HOSTILE[what])
    started = time.process_time()
    with pytest.raises(InputError, match=r"odd\.gguf: not a readable GGUF file \(") as caught:
        inspect_model(path)
    assert time.process_time() - started < 5
    assert "\n" not in str(caught.value)


def link_of_a_cache(whole: Path, tmp_path: Path) -> Path:
    """As the hub's cache keeps it: a link with the file's name to a file with the name of its hash."""
    blob = tmp_path / "blobs" / ("0" * 64)
    blob.parent.mkdir()
    whole.rename(blob)
    link = tmp_path / "snapshots" / "abc" / "tiny.gguf"
    link.parent.mkdir(parents=True)
    link.symlink_to(Path("../../blobs") / blob.name)
    return link


def the_blob(whole: Path, tmp_path: Path) -> Path:
    return Path(whole.rename(tmp_path / ("0" * 64)))


@pytest.mark.parametrize("place", [link_of_a_cache, the_blob])
def test_a_file_of_the_hubs_cache_is_a_gguf_whatever_its_name(
    whole: Path, tmp_path: Path, place: Callable[[Path, Path], Path]
) -> None:
    path = place(whole, tmp_path)
    found = find_model(str(path), Path("/"))
    assert found == path
    assert inspect_model(found).architecture == "LlamaForCausalLM"
