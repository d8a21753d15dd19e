"""Trackio, as its own environment variables have it: TRACKIO_DIR, TRACKIO_SPACE_ID."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepeft.tracking.tracker import PROJECT, Tracker


class _Trackio:
    MEND = "check TRACKIO_DIR, or with TRACKIO_SPACE_ID that you are logged in to the hub"

    def begin(self, name: str, folder: Path, known: str | None) -> str:
        import trackio

        # Its runs are told apart by their names.
        self._name = known or f"{name}-{secrets.token_hex(4)}"
        self._run = trackio.init(PROJECT, name=self._name, resume="allow", embed=False)
        return self._name

    def place(self) -> str:
        import trackio

        space = trackio.context_vars.current_space_id.get()
        shown = f"https://huggingface.co/spaces/{space}" if space else "trackio show"
        return f"{shown}, project {PROJECT}, run {self._name}"

    def callback(self) -> Any:
        from transformers.integrations import TrackioCallback

        class Goes(TrackioCallback):  # type: ignore[misc]  # transformers ships no types
            """The callback on a run that is open already, and that stays open and its space writable."""

            def setup(self, args: Any, state: Any, model: Any, **kwargs: Any) -> None:
                self._initialized = True

            def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                self._initialized = False

        return Goes()

    def log(self, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures))

    def end(self, *, whole: bool) -> None:
        self._run.finish()


def make() -> Tracker:
    """A tracker without a run."""
    return _Trackio()
