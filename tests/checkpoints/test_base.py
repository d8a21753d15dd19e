"""The base stage: what is wrong with a checkpoint shows here, before anything is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from edgepeft.checkpoints import base
from edgepeft.errors import InputError
from tests.conftest import ModelMaker
from tests.stages import run_stage


def test_checkpoint_of_fewer_layers_than_its_configuration_is_named(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(InputError, match=r"lacks model\.layers\.2\..* \(9 missing\)"):
        run_stage(base.run, tmp_path / "base", {}, {"model": model})


def test_checkpoint_without_its_last_norm_is_named(tiny_model: ModelMaker, tmp_path: Path) -> None:
    """Not only linear layers: transformers would make the norm up and say so in a log."""
    model = tmp_path / "model"
    shutil.copytree(tiny_model("qwen3"), model)
    tensors = load_file(model / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks model\.norm\.weight \(1 missing\)"):
        run_stage(base.run, tmp_path / "base", {}, {"model": model})
