"""What the train stage reads, and what it says of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from edgepeft.config.sections import Data, Method
from edgepeft.config.training_section import Training
from edgepeft.models.tasks import GENERATION, Task
from edgepeft.stages.job import StageResult, StageSettings


class TrainSettings(StageSettings):
    """A training: the recipe's sections, and what the base is called.

    ``training.accelerate_config`` is an absolute path here. Trackers call the training ``run_name`` and keep
    their files in a folder of its own in ``tracking``.
    """

    # On how many hosts the processes run changes nothing of what they compute, nor does who is told of it.
    KEYLESS: ClassVar[Mapping[str, Any]] = {
        "training": {"accelerate_config", "report_to"},
        "run_name": True,
        "tracking": True,
    }

    task: Task = GENERATION
    method: Method = Field(default_factory=Method)
    training: Training = Field(default_factory=Training)
    data: Data = Field(default_factory=Data)
    base_name: str = ""
    run_name: str = ""
    tracking: str = ""


class TrainResult(StageResult):
    """Counts of a training, and seconds: of all of it, and of its optimizer steps."""

    method: str
    grid: str
    compute_dtype: str
    objective: str
    steps: int
    rows: int
    processes: int
    trainable_parameters: int
    train_seconds: float
    step_seconds: float
    tokens_per_second: float
    device: str


def step_count(training: Training, rows: int) -> int:
    """Optimizer steps of a training on so many rows: ``max_steps``, or what ``epochs`` come to."""
    if training.max_steps:
        return training.max_steps
    per_step = training.batch_size * training.gradient_accumulation * training.processes
    return max(1, math.ceil(math.ceil(rows / per_step) * training.epochs))
