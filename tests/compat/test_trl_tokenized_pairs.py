"""TRL's trainer asks the overridden method for its rows, and takes tokenized ones as they are."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from edgepeft.compat.trl_tokenized_pairs import TokenizedPairsTrainer
from tests.conftest import ModelMaker

ROWS: list[dict[str, Any]] = [
    {"prompt_ids": [7, 8, 9], "chosen_ids": [10, 11], "rejected_ids": [12, 13, 14]},
    {"prompt_ids": [9], "chosen_ids": [10], "rejected_ids": [12]},
]


def test_the_method_that_prepares_rows_is_there() -> None:
    names = list(inspect.signature(DPOTrainer._prepare_dataset).parameters)
    assert names[:2] == ["self", "dataset"]


def test_rows_come_into_the_batch_as_they_were_given(
    tiny_model: ModelMaker, tmp_path: Path
) -> None:
    folder = tiny_model("qwen2")
    trainer = TokenizedPairsTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=DPOConfig(
            output_dir=str(tmp_path),
            max_length=None,
            use_cpu=True,
            report_to="none",
            per_device_train_batch_size=2,
            max_steps=1,
        ),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    assert trainer.train_dataset.to_list() == ROWS
    batch = trainer.data_collator(trainer.train_dataset.to_list())
    rows = [
        [token for token, kept in zip(ids, mask, strict=True) if kept]
        for ids, mask in zip(
            batch["input_ids"].tolist(), batch["attention_mask"].tolist(), strict=True
        )
    ]
    chosen = [[*row["prompt_ids"], *row["chosen_ids"]] for row in ROWS]
    rejected = [[*row["prompt_ids"], *row["rejected_ids"]] for row in ROWS]
    assert rows == [*chosen, *rejected]
    assert trainer.train().training_loss > 0
