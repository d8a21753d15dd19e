"""Safetensors checkpoints: written as the library writes them, read lazily, refused when malformed."""

from __future__ import annotations

import json
import struct
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from edgepeft.checkpoints.safetensors_io import INDEX, SINGLE, SafetensorsSource, write_checkpoint
from edgepeft.checkpoints.source import ComputedSource, TensorSpec
from edgepeft.errors import InputError
from edgepeft.events import Event, Events
from tests.conftest import ModelMaker

DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
Tensors = dict[str, torch.Tensor]


def some_tensors() -> Tensors:
    """One tensor of each dtype and odd shape, in an order that is not the alphabet's."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 5), (7,), (), (2, 0, 3), (1, 1, 1), (4, 4), (2,), (9, 1), (3,), (5, 2)]
    return {
        f"{9 - i}.{str(dtype).removeprefix('torch.')}": (
            torch.randn(shape, generator=generator) * 50
        ).to(dtype)
        for i, (dtype, shape) in enumerate(zip(DTYPES, shapes, strict=True))
    }


def source_of(tensors: Tensors) -> ComputedSource:
    specs = {name: TensorSpec(tuple(t.shape), t.dtype) for name, t in tensors.items()}
    return ComputedSource(specs, tensors.__getitem__)


def same(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    tensors = some_tensors()
    write_checkpoint(source_of(tensors), tmp_path)
    assert same(load_file(tmp_path / SINGLE), tensors)
    with safe_open(tmp_path / SINGLE, framework="pt") as handle:
        assert handle.metadata() == {"format": "pt"}
    (length,) = struct.unpack("<Q", (tmp_path / SINGLE).read_bytes()[:8])
    assert length % 8 == 0


def test_we_read_what_the_library_writes(tmp_path: Path) -> None:
    tensors = some_tensors()
    save_file(tensors, tmp_path / SINGLE)
    source = SafetensorsSource.from_folder(tmp_path)
    assert same({name: source.load(name) for name in source.specs}, tensors)
    for name, spec in source.specs.items():
        assert spec == TensorSpec(tuple(tensors[name].shape), tensors[name].dtype)
        assert spec.nbytes == tensors[name].nbytes


def test_order_is_kept_from_source_to_file(tmp_path: Path) -> None:
    tensors = {name: torch.zeros(2) for name in ("b", "a", "c.10", "c.9")}
    write_checkpoint(source_of(tensors), tmp_path)
    content = (tmp_path / SINGLE).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert [name for name in header if name != "__metadata__"] == list(tensors)
    offsets = [header[name]["data_offsets"] for name in tensors]
    assert offsets == [[8 * i, 8 * i + 8] for i in range(4)]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 200))
def test_shards_hold_every_tensor_once_within_their_limit(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    tensors = {
        f"t{index}": torch.arange(size, dtype=torch.float32) + index
        for index, size in enumerate(sizes)
    }
    write_checkpoint(source_of(tensors), folder, shard_bytes=limit)
    files = sorted(folder.glob("*.safetensors"))
    loaded = [load_file(file) for file in files]
    assert same({name: t for shard in loaded for name, t in shard.items()}, tensors)
    assert sum(len(shard) for shard in loaded) == len(tensors)
    for shard in loaded:
        assert len(shard) == 1 or sum(t.nbytes for t in shard.values()) <= limit
    assert (folder / INDEX).is_file() == (len(files) > 1)
    source = SafetensorsSource.from_folder(folder)
    assert list(source.specs) == list(tensors)
    assert same({name: source.load(name) for name in source.specs}, tensors)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_transformers_loads_our_shards(tiny_model: ModelMaker, tmp_path: Path, dtype: str) -> None:
    folder = tiny_model("llama", dtype=dtype)
    original = SafetensorsSource.from_folder(folder)
    write_checkpoint(original, tmp_path, shard_bytes=100_000)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    index = json.loads((tmp_path / INDEX).read_text())
    total = sum(spec.nbytes for spec in original.specs.values())
    assert index["metadata"]["total_size"] == total
    assert len(set(index["weight_map"].values())) > 1
    ours, theirs = (AutoModelForCausalLM.from_pretrained(path) for path in (tmp_path, folder))
    assert ours.dtype == getattr(torch, dtype)
    assert same(ours.state_dict(), theirs.state_dict())


def test_a_transposed_tensor_is_written_in_its_own_order(tmp_path: Path) -> None:
    tensor = torch.arange(6.0).reshape(2, 3).T
    write_checkpoint(source_of({"t": tensor}), tmp_path)
    assert torch.equal(load_file(tmp_path / SINGLE)["t"], tensor)


def test_writing_holds_one_tensor_at_a_time(tmp_path: Path) -> None:
    made: list[weakref.ref[Any]] = []
    most = 0

    def compute(name: str) -> torch.Tensor:
        nonlocal most
        array = torch.randn(32, 32).numpy()
        made.append(weakref.ref(array))
        most = max(most, sum(reference() is not None for reference in made))
        return torch.from_numpy(array)

    specs = {f"t{i}": TensorSpec((32, 32), torch.float32) for i in range(6)}
    write_checkpoint(ComputedSource(specs, compute), tmp_path)
    assert len(made) == 6
    assert most <= 2


def test_loaded_tensors_are_the_callers_own(tmp_path: Path) -> None:
    save_file({"t": torch.zeros(4096)}, tmp_path / SINGLE)
    source = SafetensorsSource.from_folder(tmp_path)
    source.load("t").fill_(7)
    kept = source.load("t")
    with (tmp_path / SINGLE).open("r+b") as stream:
        stream.seek(-kept.nbytes, 2)
        stream.write(b"\x01" * kept.nbytes)
    # A view of the mapped file would change with it, and keep all of it in memory.
    assert not kept.any()
    assert source.load("t").any()
    with pytest.raises(KeyError):
        source.load("absent")


def test_progress_names_each_tensor(tmp_path: Path) -> None:
    seen: list[Event] = []
    tensors = {name: torch.zeros(2) for name in ("a", "b", "c")}
    events = Events("merge", seen.append, min_interval=0.0)
    write_checkpoint(source_of(tensors), tmp_path, events=events)
    assert [event["metrics"]["tensor"] for event in seen] == ["a", "b", "c"]
    assert [(event["step"], event["total"]) for event in seen] == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.zeros(2, dtype=torch.float16)])
def test_a_tensor_unlike_its_announcement_is_not_written(
    tmp_path: Path, wrong: torch.Tensor
) -> None:
    source = ComputedSource({"t": TensorSpec((2,), torch.float32)}, lambda name: wrong)
    with pytest.raises(ValueError, match=r"^t: computed as .*, announced as \(2,\) torch.float32"):
        write_checkpoint(source, tmp_path)


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"t": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x01",
        raw(b"not json"),
        raw(entry(), length=2**60),
        raw(entry()),
        raw(entry(), b"\x00" * 7),
        raw(entry(), b"\x00" * 9),
        raw(entry(shape=(3,)), b"\x00" * 8),
        raw(entry(offsets=(4, 12)), b"\x00" * 12),
        raw(entry(offsets=(8, 0)), b"\x00" * 8),
        raw(entry(dtype="F77"), b"\x00" * 8),
        raw(entry(shape=(-2,)), b"\x00" * 8),
        raw(entry(dtype="F8_E4M3", offsets=(0, 2)), b"\x00" * 2),
    ],
)
def test_malformed_files_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SINGLE).write_bytes(content)
    with pytest.raises(InputError, match=rf"{SINGLE}: .*(not a readable|does not read)"):
        SafetensorsSource.from_folder(tmp_path)


def write_index(folder: Path, value: Any) -> None:
    (folder / INDEX).write_text(value if isinstance(value, str) else json.dumps(value))


@pytest.mark.parametrize(
    ("index", "match"),
    [
        ("{", f"{INDEX}: not a safetensors index"),
        ("[" * 100_000, f"{INDEX}: not a safetensors index"),
        ([], f"{INDEX}: not a safetensors index"),
        ({}, f"{INDEX}: not a safetensors index"),
        ({"weight_map": ["t"]}, f"{INDEX}: not a safetensors index"),
        ({"weight_map": {"t": "gone.safetensors"}}, f"{INDEX}: names gone.safetensors, which"),
        ({"weight_map": {"t": "../a.safetensors"}}, f"{INDEX}: names a.safetensors, which is not"),
        ({"weight_map": {"t": "{folder}/../a.safetensors"}}, "which is not in the folder"),
        ({"weight_map": {"other": "b.safetensors"}}, r"b.safetensors: .*other"),
    ],
)
def test_an_index_names_what_lies_beside_it(tmp_path: Path, index: Any, match: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in (tmp_path / "a.safetensors", folder / "b.safetensors"):
        save_file({"t": torch.zeros(2)}, path)
    write_index(folder, json.loads(json.dumps(index).replace("{folder}", str(folder))))
    with pytest.raises(InputError, match=match):
        SafetensorsSource.from_folder(folder)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"holds neither {SINGLE} nor {INDEX}"):
        SafetensorsSource.from_folder(tmp_path)


@pytest.mark.parametrize("change", [lambda b: b[:-40], lambda b: b""])
def test_a_file_cut_short_behind_our_back_is_named(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    save_file({"t": torch.zeros(64)}, tmp_path / SINGLE)
    source = SafetensorsSource.from_folder(tmp_path)
    (tmp_path / SINGLE).write_bytes(change((tmp_path / SINGLE).read_bytes()))
    with pytest.raises(InputError, match=f"{SINGLE}: not a readable"):
        source.load("t")
