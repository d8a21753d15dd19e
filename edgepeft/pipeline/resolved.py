"""A recipe with all that its files say, read once: what checks look at and stages are planned from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgepeft.adapters.header import AdapterHeader
from edgepeft.adapters.method import TrainingMethod
from edgepeft.adapters.overview import BaseNeeds
from edgepeft.config.loader import RecipeFile
from edgepeft.config.recipe import Recipe
from edgepeft.config.target_sections import Quantize, Target
from edgepeft.data.rows import Row
from edgepeft.evaluation.witness.exact import graph_form
from edgepeft.guidance.grammar import Grammar
from edgepeft.merging.settings import FrozenBase
from edgepeft.models import ModelInfo
from edgepeft.models.scoring import Scoring
from edgepeft.models.tasks import GENERATION, Task
from edgepeft.pipeline.sources import Source, sources_of
from edgepeft.quantization.algorithms import AUTO, is_calibrated, resolve_algorithm
from edgepeft.targets import GRID_KEYS, TargetProfile


@dataclass(frozen=True)
class ResolvedTarget:
    """A target of a recipe: what was ``asked``, the device's ``profile``, and how its weights are rounded.

    ``fallback_level`` is the accuracy level that the recipe gives all targets, None where it doesn't say.
    """

    profile: TargetProfile
    asked: Target
    grid: Quantize
    task: Task = GENERATION
    fallback_level: int | None = None

    @property
    def name(self) -> str:
        """The target's name."""
        return self.profile.name

    @property
    def swaps(self) -> bool:
        """Whether the bundle takes adapters instead of having one merged."""
        return self.asked.adapters == "hot-swap"

    @property
    def algorithm(self) -> str:
        """The name of the rounding algorithm of an integer target."""
        return resolve_algorithm(self.grid.algorithm, self.profile.bits or 0)

    @property
    def smooths(self) -> bool:
        """Whether weights are smoothed before they are rounded."""
        if not self.profile.bits or self.swaps or self.task != GENERATION:
            return False
        if self.grid.smooth is not None:
            return self.grid.smooth
        return self.profile.bits == 8 and self.grid.algorithm == AUTO

    @property
    def accuracy_level(self) -> int:
        """How activations enter integer products."""
        if not self.profile.bits:
            return self.profile.accuracy_level
        said = (self.asked.accuracy_level, self.fallback_level, self.profile.accuracy_level)
        return next(level for level in said if level is not None)

    def calibrates(self, *, smoothing: bool = True) -> bool:
        """Whether rounding looks at calibration data; with or without what smoothing does."""
        return bool(self.profile.bits) and (
            is_calibrated(self.algorithm)
            or self.grid.budget is not None
            or self.grid.learn_steps > 0
            or (smoothing and self.smooths)
        )


@dataclass(frozen=True)
class ResolvedRecipe:
    """What a recipe comes to on this machine's files.

    ``model`` is the base as it is staged: where an adapter brings another vocabulary or a head of its own, its
    sizes are those. ``given`` is the model as it lies there. ``method`` is what trains, None where an ``adapter``
    is given or ``parts`` are combined; ``further`` adapters go into hot-swap bundles. ``labels`` are a
    classifier's. ``frozen`` is the base under hot-swap bundles, None where there are none. ``local_processes``
    are those that train on this host. ``answer`` is what bounds answers by default, and
    ``answer_file`` the schema it was read from. ``paired`` says whether texts are read two together, and
    ``scoring`` how a ranker's number becomes a score.
    """

    file: RecipeFile
    model: ModelInfo
    given: ModelInfo
    base_name: str
    targets: tuple[ResolvedTarget, ...]
    method: TrainingMethod | None
    adapter: AdapterHeader | None
    parts: tuple[AdapterHeader, ...]
    further: tuple[AdapterHeader, ...]
    train_rows: list[Row]
    test_rows: list[Row]
    task: Task = GENERATION
    labels: tuple[str, ...] = ()
    needs: BaseNeeds = field(default_factory=BaseNeeds)
    frozen: FrozenBase | None = None
    local_processes: int = 1
    answer: Grammar | None = None
    answer_file: Path | None = None
    notes: tuple[str, ...] = ()
    paired: bool = False
    scoring: Scoring | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe itself."""
        return self.file.recipe

    @property
    def sources(self) -> tuple[Source, ...]:
        """What of it came from the hub, and at which commits."""
        return sources_of(self.file, self.given.path)

    @property
    def trains(self) -> bool:
        """Whether an adapter is trained."""
        return self.method is not None

    def target(self, name: str) -> ResolvedTarget:
        """A target by name."""
        return next(target for target in self.targets if target.name == name)

    def quantize_stage(self, target: ResolvedTarget) -> str:
        """The name of the stage that rounds a target's weights; what sets it apart from the recipe's is in it."""
        asked, profile = self.recipe.quantize, target.profile
        name = f"quantize-{profile.precision}"
        if target.swaps:
            name += "-base"
        if not profile.bits:
            return name
        for key in ("algorithm", *GRID_KEYS):
            value = getattr(target.grid, key)
            if value != getattr(asked, key):
                name += f"-{key.replace('_size', '')}-{str(value).lower()}"
        return name

    def float_graph(self, target: ResolvedTarget) -> str:
        """The name of the stage that holds the float form of a target's graph against the second witness."""
        return f"float-graph-{target.name if target.swaps else graph_form(target.profile)}"
