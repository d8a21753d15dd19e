"""A way for a trainer to take up a checkpoint by itself.

Written for transformers 5.23. Overrides ``Trainer._load_from_checkpoint``, through which
``train(resume_from_checkpoint=…)`` loads the model: of a prompt that a network makes, a checkpoint holds only
what the network made. A callback that may load in the trainer's place, or PEFT saving the network, would make
this unnecessary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class TakesUpCheckpoints:
    """Goes before a Trainer among a class's bases, and asks ``take_up`` first."""

    model: Any

    def take_up(self, model: Any, checkpoint: Path) -> bool:
        """Load a checkpoint's folder into ``model``; whether that was done. The trainer does it otherwise."""
        return False

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.take_up(model or self.model, Path(resume_from_checkpoint)):
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
