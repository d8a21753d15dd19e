"""A model from a GGUF file can't be saved by itself, and can once its marks are off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from edgepeft.compat.transformers_gguf_mark import forget_file
from tests.conftest import ModelMaker
from tests.tiny_gguf import write_tiny_gguf


def test_saving_is_refused_until_the_marks_are_off(tiny_model: ModelMaker, tmp_path: Path) -> None:
    path = write_tiny_gguf(tiny_model("llama"), tmp_path / "tiny.gguf")
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    assert model.hf_quantizer is not None
    with pytest.raises(ValueError, match="not serializable"):
        model.save_pretrained(tmp_path / "refused")
    forget_file(model)
    model.save_pretrained(tmp_path / "saved")
    again, info = AutoModelForCausalLM.from_pretrained(
        tmp_path / "saved", dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not hasattr(again.config, "quantization_config")
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
