"""From a recipe to a plan, the same way for a build, ``plan``, the wizard and a fleet.

A recipe is resolved (its files are read), validated (its keys are held against them) and laid out as stages.
No heavy library is imported on the way, so that a mistake is told within a second.
"""

from __future__ import annotations

from edgepeft.config.loader import RecipeFile
from edgepeft.models.tasks import GENERATION
from edgepeft.pipeline.checks import validate
from edgepeft.pipeline.inputs import ENCODER
from edgepeft.pipeline.kinds.registry import kinds_until, require_kinds
from edgepeft.pipeline.layout import lay_out
from edgepeft.pipeline.plan import Plan
from edgepeft.pipeline.resolve import resolve
from edgepeft.runs.folder import RunFolder


def make_plan(
    recipe: RecipeFile, run: RunFolder, *, until: str = "verify", bundles_apart: bool = False
) -> Plan:
    """Check a recipe's inputs and lay out its stages up to ``until``. Raises InputError, MissingError.

    With ``bundles_apart`` bundles go among the stages, each under its key, so that several for one target live
    side by side and the run's own stay as they are.
    """
    specs = kinds_until(until)
    kinds = [spec.kind for spec in specs]
    trains = recipe.recipe.adapter is None
    require_kinds(kind for kind in kinds if kind != "train" or trains)
    resolved = resolve(recipe, measured="witness" in kinds)
    if resolved.task != GENERATION and "export" in kinds:
        require_kinds(["export"], ENCODER)
    validate(resolved)
    return lay_out(resolved, run, specs, until=until, bundles_apart=bundles_apart)
