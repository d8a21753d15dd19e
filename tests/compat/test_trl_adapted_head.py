"""TRL refuses an adapted head by the one question that is hidden from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from edgepeft.compat.trl_adapted_head import head_hidden
from edgepeft.data.encoded import Encoded
from edgepeft.training.objectives import as_dataset
from tests.conftest import ModelMaker


def test_an_adapted_head_is_refused_unless_it_is_hidden(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    folder = tiny_model("qwen2")
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    lora = peft.LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM")
    model: Any = peft.get_peft_model(base, lora)
    parts: dict[str, Any] = {
        "args": SFTConfig(
            output_dir=str(tmp_path),
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            use_cpu=True,
            report_to="none",
        ),
        "train_dataset": as_dataset([Encoded([7, 8, 9], [False, True, True])]),
        "processing_class": AutoTokenizer.from_pretrained(folder),
    }
    with pytest.raises(ValueError, match="lm_head"):
        SFTTrainer(model=model, **parts)
    with head_hidden(model):
        trainer = SFTTrainer(model=model, **parts)
    assert model.get_output_embeddings() is not None
    assert trainer.model.get_output_embeddings() is not None
