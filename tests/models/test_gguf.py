"""The reader of GGUF files against the library's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepeft.compat.transformers_gguf_reading import each_file_read_once
from edgepeft.models.gguf import open_gguf, scalar_fields
from tests.models.test_inspect_gguf import write_gguf

gguf = pytest.importorskip("gguf")


def test_reads_what_the_library_reads(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tied=False)
    ours, theirs = open_gguf(path), gguf.GGUFReader(path)
    assert list(ours.fields) == list(theirs.fields)
    for name, field in theirs.fields.items():
        assert ours.fields[name].contents() == field.contents()
    assert len(ours.tensors) == len(theirs.tensors)
    for mine, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert (mine.name, mine.tensor_type) == (other.name, other.tensor_type)
        np.testing.assert_array_equal(mine.data, other.data)


def test_arrays_stay_out_of_the_scalar_fields(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 2)
    writer.add_token_list(["a", "b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    fields = scalar_fields(open_gguf(path))
    assert fields["llama.block_count"] == 2
    assert "tokenizer.ggml.tokens" not in fields


def test_one_reader_for_a_file_and_the_library_as_before(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    before = gguf.GGUFReader, gguf.get_tensor_name_map
    with each_file_read_once():
        assert gguf.GGUFReader(path) is gguf.GGUFReader(path)
        assert gguf.GGUFReader(path).fields["llama.block_count"].contents() == 2
    assert before == (gguf.GGUFReader, gguf.get_tensor_name_map)
