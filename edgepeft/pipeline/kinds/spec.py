"""What a kind of stage declares of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgepeft.pipeline.inputs import Files, Inputs
from edgepeft.pipeline.resolved import ResolvedRecipe
from edgepeft.stages.job import StageSettings
from edgepeft.stages.needs import Needs


@dataclass(frozen=True)
class PlannedStage:
    """A stage of a build: ``inputs`` are names of earlier stages by the job's name for them, ``files`` those that
    come from outside. ``final`` is where its output goes, None for the run's folder of stages.
    """

    name: str
    settings: StageSettings
    inputs: Mapping[str, str]
    files: Files
    form: str = ""
    final: Path | None = None


@dataclass(frozen=True)
class StageSpec:
    """A kind of stage.

    ``version`` is raised when its output changes for the same inputs, so that old outputs are not reused.
    ``settings`` is the model of what it reads. ``functions`` name a stage function by form, imported in the
    stage's own process alone and no part of its key; empty where an exporter carries it out, whose name is the
    form then. ``needs`` must be installed, ``form_needs`` for a form beyond that. ``plan`` names the stages of
    this kind in a build. ``memory`` is in bytes at its peak, ``disk`` in bytes that a stage of that name leaves,
    ``seconds`` at a rate of float32 operations per second. ``writes`` is what its manifest calls its folder. A
    kind that belongs behind another one names it as ``after``, as plug-ins do: a build that stops at the other
    carries it out, too.
    """

    kind: str
    version: int
    settings: type[StageSettings]
    functions: Mapping[str, str]
    needs: Needs
    plan: Callable[[ResolvedRecipe, Inputs], Iterable[PlannedStage]]
    memory: Callable[[ResolvedRecipe], float]
    disk: Callable[[ResolvedRecipe, str], float]
    seconds: Callable[[ResolvedRecipe, float], float]
    form_needs: Mapping[str, Needs] = field(default_factory=dict)
    writes: str = "stage"
    after: str = ""
