"""Training encoders by transformers' trainer: what a batch is, and the loss of each task.

Embeddings learn that an anchor is nearer to its positive than to the other positives of its batch and to all
negatives that rows bring (the multiple negatives ranking loss, https://arxiv.org/abs/1705.00652, section 4.4, on
cosines times ``SCALE``, as sentence-transformers has it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from edgepeft.checkpoints.base_stage import EncoderFacts
from edgepeft.compat.transformers_batch_loss import loss_is_mean_of_batch
from edgepeft.data.rows import Row
from edgepeft.data.texts import TextEncoder
from edgepeft.errors import InputError
from edgepeft.metrics.encoder_examples import Example, contrast, encode_row, open_encoder
from edgepeft.metrics.labels import several_hot
from edgepeft.metrics.ranking import score_loss
from edgepeft.models.scoring import Scoring
from edgepeft.models.tasks import CLASSIFICATION, EMBEDDING, MULTI_LABEL, RANKING, TAGGING
from edgepeft.stages.job import Job
from edgepeft.training.pooling import Pool, pooler
from edgepeft.training.settings import TrainSettings

Batch = dict[str, torch.Tensor]

IGNORED = -100
"""The label of a token that is not learned, as in torch's cross-entropy."""


def encode_job(job: Job[TrainSettings]) -> tuple[list[Example], list[Example]]:
    """Training examples and those of the evaluation loss."""
    facts, data = EncoderFacts.read(job.inputs["base"]), job.settings.data
    encoder = open_encoder(job.inputs["base"], data.control_tokens, data.max_length)

    def encoded(rows: Sequence[Row]) -> list[Example]:
        return [encode_row(row, facts, encoder) for row in rows]

    training = encoded(data.train_rows(job.inputs["train"]))
    rows = [row for row in training if row.positions or row.other]
    if not rows:
        raise InputError("data.max_length: leaves no word of any training row to learn")
    if facts.task == EMBEDDING and len(rows) < 2:
        raise InputError("data.train: embeddings need at least two pairs")
    if "test" not in job.inputs:
        return rows, []
    return rows, encoded(data.test_rows(job.inputs["test"])[: job.settings.training.eval_rows])


def padded(sequences: Sequence[list[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """``input_ids`` and ``attention_mask`` int64 [B, T], padded on the right."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad_id, dtype=torch.int64)
    mask = torch.zeros(len(sequences), longest, dtype=torch.int64)
    for index, sequence in enumerate(sequences):
        ids[index, : len(sequence)] = torch.tensor(sequence)
        mask[index, : len(sequence)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def collate(facts: EncoderFacts, pad_id: int, examples: Sequence[Example]) -> Batch:
    """A batch: of pairs the anchors, then their positives, then the negatives that there are; ``labels`` as the
    task's loss reads them.
    """
    sequences = [example.ids for example in examples]
    if facts.task == EMBEDDING:
        sequences += [example.other or [] for example in examples]
        sequences += [one.negative for one in examples if one.negative is not None]
    batch = padded(sequences, pad_id)
    if facts.token_types:
        types = [example.types or [] for example in examples]
        batch["token_type_ids"] = padded(types, 0)["input_ids"]
    return {**batch, "labels": _LABELS[facts.task](facts, batch, examples)}


def _one_label(facts: EncoderFacts, batch: Batch, examples: Sequence[Example]) -> torch.Tensor:
    return torch.tensor([example.targets[0] for example in examples])


def _several_labels(facts: EncoderFacts, batch: Batch, examples: Sequence[Example]) -> torch.Tensor:
    return several_hot(examples, len(facts.labels))


def _scores(facts: EncoderFacts, batch: Batch, examples: Sequence[Example]) -> torch.Tensor:
    return torch.tensor([example.score for example in examples])


def _tags(facts: EncoderFacts, batch: Batch, examples: Sequence[Example]) -> torch.Tensor:
    labels = torch.full_like(batch["input_ids"], IGNORED)
    for index, example in enumerate(examples):
        labels[index, example.positions] = torch.tensor(example.targets)
    return labels


def _places(facts: EncoderFacts, batch: Batch, examples: Sequence[Example]) -> torch.Tensor:
    return torch.arange(len(examples))


_LABELS: dict[str, Callable[[EncoderFacts, Batch, Sequence[Example]], torch.Tensor]] = {
    CLASSIFICATION: _one_label,
    MULTI_LABEL: _several_labels,
    RANKING: _scores,
    TAGGING: _tags,
    EMBEDDING: _places,
}


def task_loss(facts: EncoderFacts, outputs: Any, batch: Batch, pooled: Pool | None) -> torch.Tensor:
    """Mean loss of a batch: cross-entropy in nats per text, word, label or pair; squared error of values."""
    labels = batch["labels"]
    if pooled is not None:
        vectors = pooled(outputs.last_hidden_state.float(), batch["attention_mask"])
        scores = contrast(vectors[: len(labels)], vectors[len(labels) :])
        return torch.nn.functional.cross_entropy(scores, labels)
    logits = outputs.logits.float()
    if facts.task == MULTI_LABEL:
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    if facts.task == RANKING:
        return score_loss(logits.flatten(), labels, facts.scoring or Scoring())
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED
    )


class EncoderTrainer(Trainer):  # type: ignore[misc]  # transformers ships no types
    """Transformers' trainer over examples; for embeddings with the loss over pairs."""

    def __init__(
        self, *, facts: EncoderFacts, pad_id: int, pooled: Pool | None, **parts: Any
    ) -> None:
        self._facts, self._pooled = facts, pooled
        super().__init__(data_collator=lambda examples: collate(facts, pad_id, examples), **parts)
        loss_is_mean_of_batch(self)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The task's mean loss."""
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        loss = task_loss(self._facts, outputs, inputs, self._pooled)
        return (loss, outputs) if return_outputs else loss


def make_encoder_trainer(
    facts: EncoderFacts,
    base: Path,
    encoder: TextEncoder,
    model: Any,
    rows: Sequence[Example],
    held_out: Sequence[Example],
    arguments: dict[str, Any],
    **parts: Any,
) -> EncoderTrainer:
    """The trainer of an encoder over the staged ``base``; ``arguments`` are transformers' training arguments."""
    return EncoderTrainer(
        facts=facts,
        pad_id=encoder.pad_id,
        pooled=None if facts.pooling is None else pooler(facts.pooling, base),
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
