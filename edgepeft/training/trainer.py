"""The trainer: TRL's, with a loss that never builds a logit nobody learns from.

TRL computes log-probabilities, entropy and accuracy of every position in tiles written for GPUs; on two CPU cores
that is half of a step. Most positions of a prompt and its completion carry no label, so the head is asked only
for those that do; the loss is the same cross-entropy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from trl import SFTTrainer

from edgepeft.compat.transformers_resume import TakesUpCheckpoints
from edgepeft.compat.trl_adapted_head import head_hidden
from edgepeft.training.callbacks import PromptState
from edgepeft.training.hooks import hooks_of

IGNORED = -100
"""The label of a token that is not learned, as in torch's cross-entropy."""


def label_columns(labels: torch.Tensor) -> torch.Tensor:
    """Columns of ``labels`` int64 [B, T] that hold a token some row learns, the first column aside; int64 [U]."""
    return (labels[:, 1:] != IGNORED).any(dim=0).nonzero()[:, 0] + 1


class CompletionTrainer(TakesUpCheckpoints, SFTTrainer):  # type: ignore[misc]  # trl ships no types
    """SFTTrainer whose loss reads the logits of labelled positions alone."""

    def __init__(self, model: Any, **parts: Any) -> None:
        # TRL refuses adapted heads because its own loss multiplies with the head's bare weight; ours calls it.
        with head_hidden(model):
            super().__init__(model=model, **parts)

    def take_up(self, model: Any, checkpoint: Path) -> bool:
        """Load the network that makes a prompt, where the checkpoint has one."""
        return PromptState.restore(model, checkpoint)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Mean cross-entropy over the learned tokens of the optimizer step, float32 scalar, in nats."""
        labels = inputs["labels"]
        columns = label_columns(labels)
        # Counted from the end, a position stays right where a method puts virtual tokens in front.
        kept = columns - 1 - labels.shape[1]
        outputs = model(
            **{name: value for name, value in inputs.items() if name != "labels"},
            logits_to_keep=kept,
            use_cache=False,
        )
        wanted = labels[:, columns].reshape(-1)
        logits = outputs.logits.flatten(0, 1).float()
        total = torch.nn.functional.cross_entropy(
            logits, wanted, ignore_index=IGNORED, reduction="sum"
        )
        count = (wanted != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        loss = total / torch.as_tensor(count, device=total.device).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            # The count is that of all processes, and their gradients are averaged.
            loss = loss * self.accelerator.num_processes
        if model.training:
            bare = self.accelerator.unwrap_model(model)
            loss = loss + hooks_of(bare).penalty(bare)
        return (loss, outputs) if return_outputs else loss
