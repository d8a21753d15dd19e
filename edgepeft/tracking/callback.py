"""The trainer's callback that tells every tracker, none of which may end a training by failing."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from edgepeft.tracking.runs import OpenRuns


class TrackingCallback(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Passes on what transformers' own callbacks of trackers listen to."""

    def __init__(self, runs: OpenRuns) -> None:
        self._runs = runs
        self._callbacks = runs.callbacks()

    def on_train_begin(self, *arguments: Any, **more: Any) -> None:
        """The settings of the training."""
        self._pass_on("on_train_begin", *arguments, **more)

    def on_log(self, *arguments: Any, **more: Any) -> None:
        """Losses, rates."""
        self._pass_on("on_log", *arguments, **more)

    def on_save(self, *arguments: Any, **more: Any) -> None:
        """Checkpoints, for a tracker that is told to keep them."""
        self._pass_on("on_save", *arguments, **more)

    def on_train_end(self, *arguments: Any, **more: Any) -> None:
        """That it is over."""
        self._pass_on("on_train_end", *arguments, **more)

    def _pass_on(self, event: str, *arguments: Any, **more: Any) -> None:
        for name, callback in list(self._callbacks.items()):
            try:
                getattr(callback, event)(*arguments, **more)
            except Exception as error:  # each library has exceptions of its own
                del self._callbacks[name]
                self._runs.drop(name, error)
