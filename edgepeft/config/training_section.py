"""The recipe's ``training`` section."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgepeft.config.sections import LARGEST_SEED, Section

ComputeDtype = Literal["auto", "float32", "bfloat16"]
"""A choice of the type in which matrices are multiplied."""


class Training(Section):
    """How the adapter is trained."""

    objective: Literal["supervised", "text", "preference"] = Field(
        "supervised",
        description="supervised: loss on the answers' tokens; text: loss on all tokens of plain text, as in "
        "continued pretraining; preference: DPO on rows with prompt, chosen and rejected.",
    )
    beta: float = Field(
        0.1, gt=0, description="DPO's beta: a higher one stays closer to the base model."
    )
    max_steps: int | None = Field(None, ge=1, description="Optimizer steps; overrides epochs.")
    epochs: float = Field(3.0, gt=0, description="Passes over the training rows.")
    batch_size: int = Field(8, ge=1, description="Rows per optimizer step and process.")
    gradient_accumulation: int = Field(1, ge=1, description="Batches summed into one step.")
    learning_rate: float = Field(2.0e-4, gt=0, description="Peak learning rate of AdamW.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "cosine", description="Learning rate schedule after warm-up."
    )
    warmup_steps: int = Field(3, ge=0, description="Steps of linear warm-up of the learning rate.")
    weight_decay: float = Field(0.0, ge=0.0, description="AdamW weight decay.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    eval_steps: int | None = Field(
        None, ge=1, description="Steps between evaluations; default: three in a training."
    )
    eval_rows: int = Field(
        16, ge=0, description="Test rows in the evaluation loss; 0 turns it off."
    )
    save_steps: int | None = Field(
        None, ge=1, description="Steps between checkpoints; default: six in a training."
    )
    compute_dtype: ComputeDtype = Field(
        "auto",
        description="Type of the training's matrix products; auto: bfloat16 where the device multiplies it "
        "natively (NVIDIA GPUs from Ampere on, CPUs with AVX512-BF16 or AMX), else float32. The adapter itself, "
        "and all that is measured later, stays float32.",
    )
    seed: int = Field(
        0, ge=0, le=LARGEST_SEED, description="Seed for weights, data order and dropout."
    )
    processes: int = Field(
        1,
        ge=1,
        description="Training processes, started with `accelerate launch`, one per GPU; gradients are averaged, "
        "so a step takes batch_size rows per process.",
    )
    report_to: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = Field(
        default_factory=list,
        description="Experiment trackers that get the training's curves and, in the same run, what the bundles "
        "are measured at; each is an extra of its name.",
    )
    accelerate_config: str | None = Field(
        None,
        description="For several hosts: the file written by `accelerate config`; processes then counts those of "
        "all hosts.",
    )
