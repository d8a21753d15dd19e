"""The mapping that is used is the one by which transformers loads."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM

from edgepeft.compat.transformers_gguf_names import tensor_places
from tests.conftest import ModelMaker
from tests.tiny_gguf import write_tiny_gguf


def test_every_tensor_of_a_file_has_the_place_where_loading_puts_it(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    path = write_tiny_gguf(tiny_model("llama", tied=False), tmp_path / "tiny.gguf")
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    places = tensor_places(model, "llama", model.config)
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    loaded = dict(model.named_parameters())
    assert {places[name] for name in stored} == set(loaded)
    for name, value in stored.items():
        # Q and K are stored with their rows in another order.
        mine, theirs = loaded[places[name]].detach().numpy().ravel(), np.asarray(value).ravel()
        np.testing.assert_array_equal(np.sort(mine), np.sort(theirs))
