"""Has the trainer average a loss over the batches of a step.

Written for transformers 5.23. Sets ``Trainer.model_accepts_loss_kwargs``, which the trainer works out of the
model's signature: where it is true, a loss counts as divided by all labels of the step already, and is not
divided by its batches. A loss that is the batch's own mean needs the division. An argument of TrainingArguments
for it would make this unnecessary.
"""

from __future__ import annotations

from typing import Any


def loss_is_mean_of_batch(trainer: Any) -> None:
    """Tell a Trainer that its loss is the mean over one batch."""
    trainer.model_accepts_loss_kwargs = False
