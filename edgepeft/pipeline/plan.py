"""A plan: the stages of a build with what each reads, fixed before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgepeft.adapters.overview import BaseNeeds
from edgepeft.config.loader import RecipeFile
from edgepeft.config.target_sections import Quantize, Target
from edgepeft.data.rows import Row
from edgepeft.evaluation.witness.exact import graph_form
from edgepeft.models import ModelInfo
from edgepeft.models.tasks import GENERATION, Task
from edgepeft.quantization.algorithms import (
    AUTO,
    is_calibrated,
    resolve_algorithm,
)
from edgepeft.runs.folder import RunFolder
from edgepeft.stages.job import Stage
from edgepeft.targets import GRID_KEYS, TargetProfile


@dataclass
class Plan:
    """The stages of a recipe in order, and what was learned of its inputs on the way.

    ``model`` is the base as it is staged: where an adapter brings another vocabulary or a head of its own, its
    sizes are those. ``grids`` is how each target's weights are rounded, by the target's name; ``labels`` are a
    classifier's.
    """

    recipe: RecipeFile
    run: RunFolder
    model: ModelInfo
    base_name: str
    targets: list[TargetProfile]
    grids: dict[str, Quantize]
    train_rows: list[Row]
    test_rows: list[Row]
    adapter: Path | None
    task: Task = GENERATION
    labels: list[str] = field(default_factory=list)
    needs: BaseNeeds = field(default_factory=BaseNeeds)
    stages: list[Stage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def stage(self, name: str) -> Stage:
        """A stage of the plan by name."""
        return next(stage for stage in self.stages if stage.name == name)

    def quantize_stage(self, target: TargetProfile) -> str:
        """The name of the stage that rounds a target's weights; what sets it apart from the recipe's is in it."""
        asked, taken = self.recipe.recipe.quantize, self.grids[target.name]
        name = f"quantize-{target.precision}"
        if self.swaps(target):
            name += "-base"
        if not target.bits:
            return name
        for key in ("algorithm", *GRID_KEYS):
            value = getattr(taken, key)
            if value != getattr(asked, key):
                name += f"-{key.replace('_size', '')}-{str(value).lower()}"
        return name

    def float_graph(self, target: TargetProfile) -> str:
        """The name of the stage that holds the float form of a target's graph against the second witness."""
        return f"float-graph-{target.name if self.swaps(target) else graph_form(target)}"

    def swaps(self, target: TargetProfile) -> bool:
        """Whether a target's bundle takes adapters instead of having one merged."""
        return self.asked(target).adapters == "hot-swap"

    def asked(self, target: TargetProfile) -> Target:
        """What the recipe says of a target."""
        return next(one for one in self.recipe.recipe.targets if one.name == target.name)

    def smooths(self, target: TargetProfile) -> bool:
        """Whether a target's weights are smoothed before they are rounded."""
        quantize = self.grids[target.name]
        if not target.bits or self.swaps(target) or self.task != GENERATION:
            return False
        if quantize.smooth is not None:
            return quantize.smooth
        return target.bits == 8 and quantize.algorithm == AUTO

    def calibrates(self, target: TargetProfile, *, smoothing: bool = True) -> bool:
        """Whether rounding a target's weights looks at calibration data; with or without what smoothing does."""
        quantize = self.grids[target.name]
        return bool(target.bits) and (
            is_calibrated(resolve_algorithm(quantize.algorithm, target.bits or 0))
            or quantize.budget is not None
            or quantize.learn_steps > 0
            or (smoothing and self.smooths(target))
        )

    def kind(self, kind: str) -> list[Stage]:
        """The stages of one kind."""
        return [stage for stage in self.stages if stage.kind == kind]
