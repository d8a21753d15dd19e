"""transformers passes over the tensors of the list that is read, and reports others."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

from edgepeft.compat.transformers_left_out import is_left_out
from tests.conftest import ModelMaker


class WithoutBuffers(transformers.Qwen2ForCausalLM):  # type: ignore[misc]
    """A model whose class leaves some tensors out."""

    _keys_to_ignore_on_load_unexpected = [r"\.left_out$"]  # noqa: RUF012 (as transformers has it)


def test_what_is_left_out_is_what_loading_does_not_report(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    assert hasattr(transformers.PreTrainedModel, "_keys_to_ignore_on_load_unexpected")
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("qwen2"), folder)
    more = {"model.left_out": torch.zeros(1), "model.left_over": torch.zeros(1)}
    weights = {**load_file(folder / "model.safetensors"), **more}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model, info = WithoutBuffers.from_pretrained(folder, output_loading_info=True)
    assert set(info["unexpected_keys"]) == {"model.left_over"}
    assert [is_left_out(model, name) for name in more] == [True, False]
    plain = transformers.Qwen2ForCausalLM(model.config)
    assert not any(is_left_out(plain, name) for name in more)
