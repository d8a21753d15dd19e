"""Weights & Biases, as its own environment variables have it: WANDB_PROJECT, WANDB_API_KEY, WANDB_MODE."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepeft.tracking.tracker import PROJECT, Tracker


class _Wandb:
    MEND = (
        "log in with `wandb login`, set WANDB_API_KEY, or keep the run here with WANDB_MODE=offline"
    )

    def begin(self, name: str, folder: Path, known: str | None) -> str:
        import wandb

        own = os.environ.get("WANDB_DIR")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", name),
            id=known,
            resume="allow",
            dir=own or str(folder),
            # What a stage prints has a log of its own.
            settings=wandb.Settings(console="off"),
        )
        return str(self._run.id)

    def place(self) -> str:
        if self._run.url:
            return str(self._run.url)
        # Each time that it is opened offline it gets one folder more, of the same id.
        return f"wandb sync {Path(self._run.dir).parents[1]}/*-{self._run.id}"

    def callback(self) -> Any:
        from transformers.integrations import WandbCallback

        return WandbCallback()

    def log(self, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures))
        self._run.summary.update(dict(figures))

    def end(self, *, whole: bool) -> None:
        self._run.finish(exit_code=0 if whole else 1)


def make() -> Tracker:
    """A tracker without a run."""
    return _Wandb()
