"""The trainer divides a loss by the batches of a step only where the attribute says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from edgepeft.compat.transformers_batch_loss import loss_is_mean_of_batch
from tests.compat.toys import Slope, arguments


@pytest.mark.parametrize(("said", "change"), [(False, -4.0), (True, -2.0)])
def test_gradients_of_two_batches_are_added_up_or_averaged(
    tmp_path: Path, said: bool, change: float
) -> None:
    model = Slope()
    trainer = transformers.Trainer(
        model=model,
        args=arguments(tmp_path, max_steps=1, gradient_accumulation_steps=2),
        train_dataset=[{"x": 1.0, "labels": 1}, {"x": 3.0, "labels": 1}],
    )
    assert trainer.model_accepts_loss_kwargs is True
    if said:
        loss_is_mean_of_batch(trainer)
    trainer.train()
    assert model.weight.item() == pytest.approx(change)
