"""The trainer's loss is the model's own, for every architecture, though it asks for fewer logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig

from edgepeft.data.prompt import Encoded
from edgepeft.training.objectives import as_dataset
from edgepeft.training.trainer import CompletionTrainer, label_columns
from tests.conftest import ModelMaker
from tests.tiny import FAMILIES

IDS = torch.tensor([[7, 8, 9, 10, 11, 12], [20, 21, 22, 23, 0, 0]])
LABELS = torch.tensor([[-100, -100, -100, 10, 11, 12], [-100, -100, 22, 23, -100, -100]])
BATCH = {"input_ids": IDS, "attention_mask": (IDS != 0).long(), "labels": LABELS}


def trainer_of(model: Any, folder: Path, out: Path) -> CompletionTrainer:
    config = SFTConfig(
        output_dir=str(out),
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        use_cpu=True,
        report_to="none",
    )
    return CompletionTrainer(
        model=model,
        args=config,
        train_dataset=as_dataset([Encoded([7, 8, 9], [False, True, True])]),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )


def adapted(folder: Path, config: peft.PeftConfig) -> Any:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return peft.get_peft_model(base, config).float()


def gradients(model: Any, loss: torch.Tensor) -> list[torch.Tensor]:
    chosen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return list(torch.autograd.grad(loss, chosen))


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_the_models_own(
    tiny_model: ModelMaker, tmp_path: Path, family: str
) -> None:
    folder = tiny_model(family)
    lora = peft.LoraConfig(
        r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    trainer = trainer_of(adapted(folder, lora), folder, tmp_path)
    model = trainer.model
    wanted = model(**BATCH).loss
    loss = trainer.compute_loss(model, dict(BATCH))
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-6)
    pairs = zip(gradients(model, loss), gradients(model, wanted), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_virtual_tokens_in_front_do_not_shift_the_labels(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    folder = tiny_model("llama")
    prompt = peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    trainer = trainer_of(adapted(folder, prompt), folder, tmp_path)
    loss = trainer.compute_loss(trainer.model, dict(BATCH))
    torch.testing.assert_close(loss, trainer.model(**BATCH).loss, rtol=1e-5, atol=1e-6)


def test_the_count_of_a_whole_step_divides_the_sum(tiny_model: ModelMaker, tmp_path: Path) -> None:
    folder = tiny_model("llama")
    lora = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = trainer_of(adapted(folder, lora), folder, tmp_path)
    mean = trainer.compute_loss(trainer.model, dict(BATCH))
    of_ten = trainer.compute_loss(trainer.model, dict(BATCH), num_items_in_batch=torch.tensor(10))
    torch.testing.assert_close(of_ten * 10, mean * 5)


def test_columns_are_those_any_row_learns() -> None:
    assert label_columns(LABELS).tolist() == [2, 3, 4, 5]
    assert label_columns(torch.full((2, 4), -100)).tolist() == []
