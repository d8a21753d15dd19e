"""A plan: the stages of a build with what each reads, fixed before anything runs."""

from __future__ import annotations

from dataclasses import dataclass

from edgepeft.pipeline.resolved import ResolvedRecipe
from edgepeft.runs.folder import RunFolder
from edgepeft.stages.job import Stage


@dataclass(frozen=True)
class Plan:
    """The stages of a recipe in order, and what is to be said before they begin."""

    resolved: ResolvedRecipe
    run: RunFolder
    stages: tuple[Stage, ...]
    notes: tuple[str, ...]

    def stage(self, name: str) -> Stage:
        """A stage of the plan by name."""
        return next(stage for stage in self.stages if stage.name == name)

    def kind(self, kind: str) -> list[Stage]:
        """The stages of one kind."""
        return [stage for stage in self.stages if stage.kind == kind]
