"""A merged checkpoint as GGUF: read back by transformers' own reader, and answered by llama.cpp where it is."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from edgepeft.checkpoints.gguf_export import write_gguf
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.errors import InputError
from tests.conftest import ModelMaker


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_transformers_reads_back_every_weight(
    tiny_model: ModelMaker, tmp_path: Path, family: str
) -> None:
    """Its reader turns rotary pairs back by code of its own."""
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    source = SafetensorsSource.from_folder(tiny_model(family))
    file = tmp_path / "model.gguf"
    write_gguf(tiny_model(family), file)
    config = json.loads((tiny_model(family) / "config.json").read_text())
    found: dict[str, Any] = load_gguf_checkpoint(str(file))["config"]
    for key in ("hidden_size", "num_hidden_layers", "num_key_value_heads", "rms_norm_eps"):
        assert found[key] == pytest.approx(config[key]), key
    import gguf

    reader = gguf.GGUFReader(file)
    assert len(reader.tensors) == len(source.specs)
    sizes = {tuple(int(n) for n in tensor.shape[::-1]) for tensor in reader.tensors}
    assert sizes == {tuple(spec.shape) for spec in source.specs.values()}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"architectures": ["PhiForCausalLM"]}, "PhiForCausalLM is not written as GGUF; known"),
        ({"sliding_window": 16}, "a sliding window is not written"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rotary scaling llama3 is not written"),
    ],
)
def test_what_would_come_out_wrong_is_refused(
    tiny_model: ModelMaker, tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("rope_parameters", None)
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError, match=match):
        write_gguf(folder, tmp_path / "model.gguf")


@pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_llama_cpp_computes_what_transformers_does(
    tiny_model: ModelMaker, tmp_path: Path, family: str
) -> None:
    from transformers import AutoModelForCausalLM

    from edgepeft.benchmark.gguf_model import GgufModel

    file = tmp_path / "model.gguf"
    write_gguf(tiny_model(family), file)
    ids = [5, 9, 17, 33, 65, 129, 7]
    model = GgufModel(file, capacity=32, threads=1)
    found = torch.from_numpy(model.read(ids, 0, every=True))
    # One by one, over a cache that is cut back first.
    again = [model.read([token], index)[0] for index, token in enumerate(ids)]
    model.close()
    theirs = AutoModelForCausalLM.from_pretrained(tiny_model(family), dtype=torch.float32)
    with torch.no_grad():
        wanted = theirs(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(found, wanted, atol=2e-2, rtol=1e-2)
    torch.testing.assert_close(torch.tensor(again[-1]), wanted[-1], atol=2e-2, rtol=1e-2)
    assert found.argmax(-1).tolist() == wanted.argmax(-1).tolist()
