"""What a build leaves about itself in its folder while it works: the run's record and its events."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from edgepeft import __version__
from edgepeft.config.loader import RecipeFile
from edgepeft.errors import EdgepeftError, InterruptedRun, outcome_of
from edgepeft.events import Event, Sink
from edgepeft.runs.folder import RunFolder
from edgepeft.runs.index import remember_run
from edgepeft.utils.whole_files import write_json, write_text


@dataclass
class Record:
    """A run's record, ``run.json``: begun as running, finished in the state the build ended in."""

    run: RunFolder
    facts: dict[str, Any]

    @classmethod
    def start(
        cls,
        run: RunFolder,
        recipe: RecipeFile,
        model: str,
        targets: Sequence[str],
        **more: Any,
    ) -> Self:
        """Begin the record of a build in a locked folder, and keep its recipe there. Raises EdgepeftError."""
        write_text(run.path / "recipe.yaml", recipe.verbatim)
        write_text(run.path / "recipe.resolved.yaml", recipe.resolved_yaml())
        facts = {
            "format": 1,
            "name": recipe.name,
            "recipe": str(recipe.path.resolve()) if recipe.path else None,
            "folder": str(recipe.folder.resolve()),
            "model": model,
            "targets": list(targets),
            "state": "running",
            "pid": os.getpid(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "edgepeft": __version__,
            **more,
        }
        write_json(run.record, facts)
        remember_run(run.path)
        return cls(run, facts)

    def finish(self, state: str, **facts: Any) -> None:
        """Say how the build ended."""
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self.run.record, {**self.facts, "state": state, "ended": ended, **facts})

    def fail(self, error: BaseException, **facts: Any) -> None:
        """Say that the build ended in an error, or was interrupted."""
        stopped = isinstance(error, (InterruptedRun, KeyboardInterrupt))
        # The error itself matters more than that it can't be kept, on a full disk say.
        with contextlib.suppress(EdgepeftError):
            self.finish(
                "interrupted" if stopped else "failed", error=outcome_of(error).line, **facts
            )


def recorded(path: Path, sink: Sink) -> Sink:
    """A sink that also keeps every event in the run's folder, for whoever looks in later."""
    path.unlink(missing_ok=True)

    def record(event: Event) -> None:
        with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"time": round(time.time(), 3), **event}) + "\n")
        sink(event)

    return record
