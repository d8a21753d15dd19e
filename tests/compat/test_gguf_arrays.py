"""The library's reader cuts everything out of the one attribute that is caught."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from edgepeft.compat.gguf_arrays import array_reader
from tests.conftest import ModelMaker
from tests.tiny_gguf import write_tiny_gguf


def test_tensors_are_plain_arrays_over_the_same_file(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    path = write_tiny_gguf(tiny_model("llama"), tmp_path / "tiny.gguf")
    theirs, ours = gguf.GGUFReader(path), array_reader()(path)
    assert isinstance(theirs.data, np.memmap), "the library reads plain arrays now"
    assert type(ours.data) is np.ndarray
    assert isinstance(ours.data.base, np.memmap)
    assert len(ours.tensors) == len(theirs.tensors) > 0
    for mine, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert isinstance(other.data, np.memmap)
        assert type(mine.data) is np.ndarray
        assert np.shares_memory(mine.data, ours.data), "a tensor is no longer cut out of data"
        np.testing.assert_array_equal(mine.data, other.data)
