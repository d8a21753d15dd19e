"""The trainer's loss is the model's own, for every architecture, though it asks for fewer logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig

from edgepeft.data.encoded import Encoded
from edgepeft.training.callbacks import PromptState
from edgepeft.training.objectives import as_dataset
from edgepeft.training.trainer import CompletionTrainer, label_columns
from tests.conftest import ModelMaker
from tests.tiny import FAMILIES

IDS = torch.tensor([[7, 8, 9, 10, 11, 12], [20, 21, 22, 23, 0, 0]])
LABELS = torch.tensor([[-100, -100, -100, 10, 11, 12], [-100, -100, 22, 23, -100, -100]])
BATCH = {"input_ids": IDS, "attention_mask": (IDS != 0).long(), "labels": LABELS}


def trainer_of(model: Any, folder: Path, out: Path, **options: Any) -> CompletionTrainer:
    config = SFTConfig(
        output_dir=str(out),
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        use_cpu=True,
        report_to="none",
        **options,
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


@pytest.mark.parametrize("kind", ["p_tuning", "prefix_tuning"])
def test_a_prompt_that_a_network_makes_is_taken_up_again(
    tiny_model: ModelMaker, tmp_path: Path, kind: str
) -> None:
    """PEFT saves what the network made; going on takes the network itself."""
    folder = tiny_model("llama")
    config: dict[str, Any] = {"num_virtual_tokens": 3, "encoder_hidden_size": 8}
    config |= {"prefix_projection": True} if kind == "prefix_tuning" else {}
    options: dict[str, Any] = {"max_steps": 4, "save_steps": 2, "learning_rate": 0.05}
    options |= {"save_strategy": "steps", "gradient_checkpointing": False}
    rows = as_dataset([Encoded([7, 8, 9, 10 + i], [False, True, True, True]) for i in range(8)])

    def trained(resume: Path | None) -> torch.Tensor:
        chosen = peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[kind.upper()]
        model = adapted(folder, chosen(task_type="CAUSAL_LM", **config))
        if resume is not None:
            torch.nn.init.zeros_(model.prompt_encoder["default"].embedding.weight)
        out = tmp_path / ("first" if resume is None else "second")
        trainer = trainer_of(model, folder, out, **options)
        trainer.train_dataset = rows
        trainer.add_callback(PromptState(model))
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        prompt: torch.Tensor = model.get_prompt_embedding_to_save("default")
        return prompt

    whole = trained(None)
    torch.testing.assert_close(trained(tmp_path / "first" / "checkpoint-2"), whole)
