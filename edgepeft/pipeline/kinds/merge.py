"""The merge stage: base and adapter as one checkpoint, where that is kept."""

from __future__ import annotations

from collections.abc import Iterator

from edgepeft.merging.settings import AdapterSettings
from edgepeft.pipeline.costs import lazy_memory, lazy_seconds, of_whole
from edgepeft.pipeline.inputs import Inputs
from edgepeft.pipeline.kinds.spec import PlannedStage, StageSpec
from edgepeft.pipeline.resolved import ResolvedRecipe
from edgepeft.stages.needs import ADAPTED


def _plan(resolved: ResolvedRecipe, read: Inputs) -> Iterator[PlannedStage]:
    needed = any(not target.swaps for target in resolved.targets)
    if (resolved.recipe.merge.save and needed) or read.until == "merge":
        weights = read.adapted
        settings = AdapterSettings(merge=weights.merge)
        yield PlannedStage("merge", settings, weights.inputs, weights.files)


MERGE = StageSpec(
    kind="merge",
    version=4,
    settings=AdapterSettings,
    functions={"": "edgepeft.merging.stage:run"},
    needs={"export": ADAPTED},
    plan=_plan,
    memory=lazy_memory,
    disk=of_whole,
    seconds=lazy_seconds,
)
