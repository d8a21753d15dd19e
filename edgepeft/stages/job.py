"""What a stage is: a plain function from settings and input folders to an output folder and a few facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepeft.events import Events


@dataclass(frozen=True)
class Job:
    """What a stage gets to work with.

    ``settings`` are JSON values; ``inputs`` are finished folders or files; ``out`` is an empty folder to fill;
    ``scratch`` survives a killed attempt, so that the next one goes on from there.
    """

    settings: Mapping[str, Any]
    inputs: Mapping[str, Path]
    out: Path
    scratch: Path
    events: Events

    def template(self, chosen: str) -> str:
        """The prompt template to use: a mode by name, or the file that the plan found for ``chosen``."""
        return str(self.inputs["template"]) if "template" in self.inputs else chosen


StageFunction = Callable[[Job], dict[str, Any]]
"""Returns JSON facts that later stages and the report read from the manifest's ``result``."""


@dataclass(frozen=True)
class Stage:
    """One step of a plan.

    ``function`` is ``package.module:name``, imported only in the stage's own process. ``inputs`` name earlier
    stages; ``files`` are paths from outside with the digest that stands for their content. ``key`` identifies
    the output: the same key means the same work. ``final`` is where the output goes.
    """

    name: str
    kind: str
    function: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    files: Mapping[str, tuple[Path, str]]
    key: str
    final: Path
    scratch: Path
