"""transformers takes the reader and the table of names from gguf anew each time, and gets ours within."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM

from edgepeft.compat.transformers_gguf_reading import each_file_read_once
from tests.conftest import ModelMaker
from tests.tiny_gguf import write_tiny_gguf


def test_a_file_is_read_once_and_its_names_are_mapped_once(
    tiny_model: ModelMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_gguf(tiny_model("llama"), tmp_path / "tiny.gguf")
    counts = {"reader": 0, "names": 0}
    begin, names = gguf.GGUFReader.__init__, gguf.get_tensor_name_map

    def counted_begin(self: Any, *args: Any, **kwargs: Any) -> None:
        counts["reader"] += 1
        begin(self, *args, **kwargs)

    def counted_names(*args: Any) -> Any:
        counts["names"] += 1
        return names(*args)

    monkeypatch.setattr(gguf.GGUFReader, "__init__", counted_begin)
    monkeypatch.setattr(gguf, "get_tensor_name_map", counted_names)

    def load() -> Any:
        return AutoModelForCausalLM.from_pretrained(
            tmp_path, gguf_file=path.name, dtype=torch.float32
        )

    theirs = load()
    assert min(counts.values()) > 1, "transformers reads a file once by itself now"
    counts.update(reader=0, names=0)
    with each_file_read_once():
        ours = load()
    assert counts == {"reader": 1, "names": 1}
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)
