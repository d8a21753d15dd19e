"""What AdaLoRA does while it trains (https://arxiv.org/abs/2303.10512): PEFT leaves it to whoever trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from edgepeft.compat.peft_adalora import rank_state, take_up_rank_state
from edgepeft.training.hooks import TrainingHooks


class AdaLora(TrainingHooks):
    """Ranks are shared out after each step, factors kept orthogonal, and ranks given up saved as zeros."""

    def callbacks(self, adapted: Any) -> Sequence[Any]:
        """One that shares out the ranks."""
        return (RankAllocation(adapted),)

    def penalty(self, adapted: Any) -> torch.Tensor:
        """The penalty for factors that are not orthogonal (eq. 4), a float32 scalar.

        PEFT adds it to the loss a model computes itself, and ours is computed outside.
        """
        norms = []
        for name, factor in adapted.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                gram = factor @ factor.T if "lora_A" in name else factor.T @ factor
                norms.append(torch.linalg.norm(gram - torch.eye(len(gram), device=gram.device)))
        weight: float = adapted.peft_config["default"].orth_reg_weight
        return weight * torch.stack(norms).mean()

    def before_saving(self, adapted: Any) -> None:
        """Without the pattern of ranks PEFT keeps those given up, and every tensor has one shape."""
        adapted.peft_config["default"].rank_pattern = None


class RankAllocation(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Has AdaLoRA share out its ranks after each optimizer step, while the gradients are still there.

    What it knows of importance is saved with every checkpoint, so that a training that is taken up again goes on
    as it would have.
    """

    FILE = "adalora.pt"

    def __init__(self, adapted: Any) -> None:
        self._tuner = adapted.base_model

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take up what an interrupted training had learned of importance."""
        kept = Path(args.output_dir) / f"checkpoint-{state.global_step}" / self.FILE
        if state.global_step and kept.is_file():
            take_up_rank_state(self._tuner, torch.load(kept, weights_only=True))

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Allocate; the step that was just taken is counted only later."""
        self._tuner.update_and_allocate(state.global_step + 1)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the importances beside the checkpoint that was just written."""
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        torch.save(rank_state(self._tuner), folder / self.FILE)
