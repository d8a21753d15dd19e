"""A model of one weight for transformers' trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers


class Slope(torch.nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """Its loss is weight times x, so the gradient is x."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor, **kwargs: Any) -> dict[str, torch.Tensor]:
        return {"loss": self.weight * x.mean()}


def arguments(out: Path, **options: Any) -> transformers.TrainingArguments:
    """Plain gradient descent at rate 1, one example a batch."""
    settings = {
        "optim": "sgd",
        "learning_rate": 1.0,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "per_device_train_batch_size": 1,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }
    return transformers.TrainingArguments(output_dir=str(out), **{**settings, **options})
