"""Training encoders: classifiers of texts or of words by transformers' trainer, embeddings against other pairs.

Embeddings learn that an anchor is nearer to its positive than to the other positives of its batch (the multiple
negatives ranking loss, https://arxiv.org/abs/1705.00652, section 4.4, on cosines times ``SCALE``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from edgepeft.checkpoints.base_stage import EncoderFacts
from edgepeft.compat.transformers_batch_loss import loss_is_mean_of_batch
from edgepeft.data.rows import Row
from edgepeft.data.texts import TextEncoder
from edgepeft.errors import InputError
from edgepeft.metrics.encoder_examples import Example, contrast, encode_row, open_encoder
from edgepeft.models.sentence_files import Pooling
from edgepeft.models.tasks import EMBEDDING, TAGGING
from edgepeft.stages.job import Job
from edgepeft.training.settings import TrainSettings

IGNORED = -100
"""The label of a token that is not learned, as in torch's cross-entropy."""


def encode_job(job: Job[TrainSettings]) -> tuple[list[Example], list[Example]]:
    """Training examples and those of the evaluation loss."""
    facts, data = EncoderFacts.read(job.inputs["base"]), job.settings.data
    encoder = open_encoder(job.inputs["base"], data.control_tokens, data.max_length)

    def encoded(rows: Sequence[Row]) -> list[Example]:
        return [encode_row(row, facts.task, encoder, facts.labels) for row in rows]

    training = encoded(data.train_rows(job.inputs["train"]))
    rows = [row for row in training if row.positions or row.other]
    if not rows:
        raise InputError("data.max_length: leaves no word of any training row to learn")
    if facts.task == EMBEDDING and len(rows) < 2:
        raise InputError("data.train: embeddings need at least two pairs")
    if "test" not in job.inputs:
        return rows, []
    return rows, encoded(data.test_rows(job.inputs["test"])[: job.settings.training.eval_rows])


def pooled(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """One vector float32 [B, H] for each text of token vectors [B, T, H]; ``mask`` [B, T] is 0 on padding."""
    if pooling.mode == "cls":
        vectors = hidden[:, 0]
    else:
        weights = mask[..., None].to(hidden.dtype)
        vectors = (hidden * weights).sum(1) / weights.sum(1)
    return torch.nn.functional.normalize(vectors, dim=-1) if pooling.normalize else vectors


def padded(sequences: Sequence[list[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """``input_ids`` and ``attention_mask`` int64 [B, T], padded on the right."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad_id, dtype=torch.int64)
    mask = torch.zeros(len(sequences), longest, dtype=torch.int64)
    for index, sequence in enumerate(sequences):
        ids[index, : len(sequence)] = torch.tensor(sequence)
        mask[index, : len(sequence)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def collate(task: str, pad_id: int, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """A batch: pairs as anchors followed by their positives; ``labels`` as the task's loss reads them."""
    sequences = [example.ids for example in examples]
    if task == EMBEDDING:
        batch = padded([*sequences, *(example.other or [] for example in examples)], pad_id)
        return {**batch, "labels": torch.arange(len(examples))}
    batch = padded(sequences, pad_id)
    if task != TAGGING:
        return {**batch, "labels": torch.tensor([example.targets[0] for example in examples])}
    labels = torch.full_like(batch["input_ids"], IGNORED)
    for index, example in enumerate(examples):
        labels[index, example.positions] = torch.tensor(example.targets)
    return {**batch, "labels": labels}


class EncoderTrainer(Trainer):  # type: ignore[misc]  # transformers ships no types
    """Transformers' trainer over examples; for embeddings with the loss over pairs."""

    def __init__(self, *, facts: EncoderFacts, pad_id: int, **parts: Any) -> None:
        self._facts = facts
        super().__init__(
            data_collator=lambda examples: collate(facts.task, pad_id, examples), **parts
        )
        loss_is_mean_of_batch(self)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Mean cross-entropy in nats, per text, tagged word or pair."""
        labels = inputs["labels"]
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        if self._facts.pooling is not None:
            vectors = pooled(
                outputs.last_hidden_state.float(), inputs["attention_mask"], self._facts.pooling
            )
            scores = contrast(*vectors.chunk(2))
        else:
            scores = outputs.logits.float().flatten(0, -2)
        loss = torch.nn.functional.cross_entropy(scores, labels.flatten(), ignore_index=IGNORED)
        return (loss, outputs) if return_outputs else loss


def make_encoder_trainer(
    facts: EncoderFacts,
    encoder: TextEncoder,
    model: Any,
    rows: Sequence[Example],
    held_out: Sequence[Example],
    arguments: dict[str, Any],
    **parts: Any,
) -> EncoderTrainer:
    """The trainer of an encoder; ``arguments`` are transformers' training arguments."""
    return EncoderTrainer(
        facts=facts,
        pad_id=encoder.pad_id,
        model=model,
        args=TrainingArguments(
            **arguments,
            remove_unused_columns=False,
            prediction_loss_only=True,
            label_names=["labels"],
        ),
        train_dataset=list(rows),
        eval_dataset=list(held_out) or None,
        **parts,
    )
