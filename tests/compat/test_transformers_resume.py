"""The trainer loads a checkpoint through the method that is overridden."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import transformers

from edgepeft.compat.transformers_resume import TakesUpCheckpoints
from tests.compat.toys import Slope, arguments


class Resumes(TakesUpCheckpoints, transformers.Trainer):  # type: ignore[misc]
    """Notes what it is asked to take up."""

    does = False

    def take_up(self, model: Any, checkpoint: Path) -> bool:
        self.asked = (model, checkpoint)
        return self.does


def test_the_method_takes_a_folder_and_a_model() -> None:
    names = list(inspect.signature(transformers.Trainer._load_from_checkpoint).parameters)
    assert names == ["self", "resume_from_checkpoint", "model"]


@pytest.mark.parametrize("does", [False, True])
def test_it_is_asked_before_the_trainer_loads(tmp_path: Path, does: bool) -> None:
    rows = [{"x": 3.0}, {"x": 3.0}, {"x": 3.0}]
    how = {"save_strategy": "steps", "save_steps": 1}
    Resumes(model=Slope(), args=arguments(tmp_path, max_steps=1, **how), train_dataset=rows).train()
    saved = tmp_path / "checkpoint-1"
    assert saved.is_dir()
    model = Slope()
    trainer = Resumes(model=model, args=arguments(tmp_path, max_steps=2, **how), train_dataset=rows)
    trainer.does = does
    trainer.train(resume_from_checkpoint=str(saved))
    assert trainer.asked == (model, saved)
    # From the checkpoint's -3, or from nothing where loading is said to be done.
    assert model.weight.item() == (-3.0 if does else -6.0)
