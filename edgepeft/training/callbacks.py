"""What the trainer tells us, and what we tell it: progress events, whole checkpoints, a graceful stop."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from edgepeft.compat.peft_adalora import rank_state, take_up_rank_state
from edgepeft.events import Events
from edgepeft.training.checkpoints import mark_complete
from edgepeft.training.ranks import ALONE, Ranks


class StopRequest:
    """Set by SIGINT or SIGTERM: finish the step at hand, save a checkpoint, stop."""

    def __init__(self) -> None:
        self.requested = False

    def listen(self) -> None:
        """Take over the two signals; only the main thread may."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._note)
            signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


class Reporter(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Turns the trainer's logs into progress events and marks its checkpoints."""

    def __init__(
        self, events: Events, stop: StopRequest, tokens_per_step: float, ranks: Ranks = ALONE
    ) -> None:
        self._events = events
        self._stop = stop
        self._ranks = ranks
        self._tokens_per_step = tokens_per_step
        self._step_started = 0.0
        self.step_seconds = 0.0
        self.steps_run = 0
        self.history: list[dict[str, float]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock of the whole loop."""
        self._events.progress(0, state.max_steps)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock of one optimizer step."""
        self._step_started = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock; if a stop was asked for, save and leave."""
        self.step_seconds += time.monotonic() - self._step_started
        self.steps_run += 1
        # Whoever was asked, all stop after the same step.
        self._stop.requested = self._ranks.any(self._stop.requested)
        if self._stop.requested:
            control.should_save = True
            control.should_training_stop = True

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Send what was logged, with the rate of optimizer steps so far."""
        logs = logs or {}
        metrics: dict[str, float] = {
            key: float(logs[key])
            for key in ("loss", "eval_loss", "learning_rate", "grad_norm")
            if key in logs
        }
        if not metrics:
            return
        self.history.append({"step": state.global_step, **metrics})
        if self.step_seconds:
            rate = self._tokens_per_step * self.steps_run / self.step_seconds
            metrics["tokens_per_second"] = round(rate, 1)
        self._events.progress(state.global_step, state.max_steps, **metrics)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark the checkpoint that was just written as whole; every process has written its part."""
        self._ranks.wait()
        if self._ranks.first:
            mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}")


class PromptState(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Keeps with every checkpoint the network that makes a prompt; PEFT keeps only what it makes.

    ``restore`` takes up a checkpoint in PEFT's place.
    """

    FILE = "prompt_encoder.safetensors"

    def __init__(self, adapted: Any) -> None:
        self._adapted = adapted

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the network beside the checkpoint."""
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        save_file(self._adapted.prompt_encoder.state_dict(), str(folder / self.FILE))

    @classmethod
    def restore(cls, adapted: Any, checkpoint: Path) -> bool:
        """Load the network of a checkpoint that has one; whether it has."""
        if not (checkpoint / cls.FILE).is_file():
            return False
        adapted.prompt_encoder.load_state_dict(load_file(str(checkpoint / cls.FILE)))
        return True


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
