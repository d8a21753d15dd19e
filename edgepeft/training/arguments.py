"""A recipe's ``training`` as the trainer's arguments."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from edgepeft.stages.job import Job
from edgepeft.training.settings import TrainSettings

if TYPE_CHECKING:
    import torch


def trainer_arguments(
    job: Job[TrainSettings], steps: int, compute: torch.dtype, *, evaluate: bool
) -> dict[str, Any]:
    """What transformers.TrainingArguments gets for ``steps`` optimizer steps, the objective's own aside.

    Products are of the type ``compute``.
    """
    import torch

    training = job.settings.training
    on_cuda = torch.cuda.is_available()
    return {
        "output_dir": str(job.scratch / "checkpoints"),
        "max_steps": steps,
        "per_device_train_batch_size": training.batch_size,
        "per_device_eval_batch_size": training.batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.schedule,
        "warmup_steps": min(training.warmup_steps, max(0, steps - 1)),
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "seed": training.seed,
        "data_seed": training.seed,
        "bf16": compute is torch.bfloat16,
        "use_cpu": not on_cuda,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "eval_strategy": "steps" if evaluate else "no",
        "eval_steps": training.eval_steps or max(1, math.ceil(steps / 3)),
        "save_strategy": "steps",
        "save_steps": training.save_steps or max(1, math.ceil(steps / 6)),
        "save_total_limit": 2,
        "dataloader_pin_memory": on_cuda,
        "disable_tqdm": True,
        # Trackers are told by a callback of ours, which outlives their failing.
        "report_to": "none",
        "run_name": job.settings.run_name or None,
    }
