"""The gates that a target's bundle is held to."""

from __future__ import annotations

from edgepeft.config.recipe import promised
from edgepeft.config.target_sections import Gates
from edgepeft.evaluation.gates import for_precision
from edgepeft.pipeline.resolved import ResolvedRecipe, ResolvedTarget


def gates_of(resolved: ResolvedRecipe, target: ResolvedTarget, adapter: str | None = None) -> Gates:
    """The recipe's gates, and those of a precision whose bundle is to be the reference.

    ``adapter`` names one of a hot-swap bundle: what further ones gained is no matter of this training.
    """
    gates = promised(resolved.recipe)
    if resolved.recipe.merge.base == "dequantized" and not target.swaps:
        gates = for_precision(gates, target.profile.precision)
    if adapter not in (None, resolved.file.adapter_name):
        gates = gates.model_copy(update={"min_reference_gain": None})
    return gates
