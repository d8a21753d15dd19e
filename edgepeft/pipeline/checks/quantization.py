"""What of quantization a target has not, or no choice of grids can reach."""

from __future__ import annotations

from edgepeft.errors import InputError
from edgepeft.models import ModelInfo
from edgepeft.models.checks import not_calibrated_because
from edgepeft.models.tasks import GENERATION
from edgepeft.pipeline.resolved import ResolvedRecipe, ResolvedTarget


def check_lossless(resolved: ResolvedRecipe) -> None:
    """``merge.base``: another base than a lossless target contains."""
    for target in resolved.targets:
        refuse_other_base(target, resolved.recipe.merge.base)
        refuse_other_grid(target, resolved.given)


def check_requantized(resolved: ResolvedRecipe) -> None:
    """``merge.base``: requantized, of a base that nothing of ours rounds to."""
    if resolved.given.on_own_grid and resolved.recipe.merge.base == "requantized":
        raise InputError(
            f"merge.base: requantized: the weights of {resolved.recipe.model} are "
            f"{resolved.given.quantization}'s, which no merge is rounded back to; set it to dequantized"
        )


def refuse_other_grid(target: ResolvedTarget, model: ModelInfo) -> None:
    """Raise InputError where a lossless target can't contain the codes that a base came in."""
    if target.profile.precision == "nf4" and model.on_own_grid:
        raise InputError(
            f"targets: {target.name} contains codes of bitsandbytes' 4 bits, and the model's are "
            f"{model.quantization}'s; choose cpu-fp32, which loses nothing"
        )


def refuse_other_base(target: ResolvedTarget, base: str) -> None:
    """Raise InputError where a target contains another base than ``merge.base`` asks for."""
    if target.profile.precision == "nf4" and base != "dequantized":
        raise InputError(
            f"merge.base: {target.name} contains the base that the adapter was trained on; set it to dequantized"
        )


def check_symmetric(resolved: ResolvedRecipe) -> None:
    """``quantize.symmetric``: with an algorithm that has no such form."""
    for target in resolved.targets:
        refuse_symmetric(target)


def refuse_symmetric(target: ResolvedTarget) -> None:
    """Raise InputError where a target's grid is symmetric and its algorithm is not."""
    if target.profile.bits and target.grid.algorithm == "k_quant" and target.grid.symmetric:
        raise InputError("quantize.symmetric: k_quant has no symmetric variant; set it to false")


def check_smoothing(resolved: ResolvedRecipe) -> None:
    """``quantize.smooth``: where it can't be had."""
    if not resolved.recipe.quantize.smooth:
        return
    if resolved.task != GENERATION:
        raise InputError("quantize.smooth: works for text generation only; leave it out")
    for target in resolved.targets:
        if target.swaps:
            raise InputError(
                f"quantize.smooth: would change what the adapters of {target.name} were trained on; leave out "
                "smooth or adapters: hot-swap"
            )


def check_calibration(resolved: ResolvedRecipe) -> None:
    """``quantize``: what looks at calibration data, of a model that it can't be followed through."""
    why = not_calibrated_because(resolved.given)
    if why is not None and any(target.calibrates() for target in resolved.targets):
        raise InputError(
            f"quantize: {resolved.given.architecture} can't be calibrated layer by layer, for {why}; set "
            "algorithm to auto, k_quant or rtn, and leave out what else is fitted to calibration data "
            "(learn_steps, budgets)"
        )


def check_budget(resolved: ResolvedRecipe) -> None:
    """``quantize.max_bytes`` and its like: what no choice of grids can reach, before anything is trained."""
    quantize, data = resolved.recipe.quantize, resolved.recipe.data
    if quantize.budget is None:
        return
    for target in resolved.targets:
        if target.profile.weight_layout == "qdq":
            raise InputError(
                f"quantize.{quantize.budget}: chooses a grid for each layer, and {target.name} supports one grid "
                "only; remove it"
            )
        if target.profile.precision != "int4":
            raise InputError(
                f"quantize.{quantize.budget}: chooses between 4 and 8 bits, and the precision of {target.name} "
                "is fixed; use int4 targets only"
            )
    share = quantize.calibration.task_share
    if quantize.max_task_kl is not None and (data.train is None or share == 0):
        raise InputError(
            "quantize.max_task_kl: is measured on rows of data.train; give data.train, and set "
            "quantize.calibration.task_share above 0"
        )
    if quantize.max_generic_kl is not None and share == 1:
        raise InputError(
            "quantize.max_generic_kl: is measured on generic text; set quantize.calibration.task_share below 1"
        )
    budget = quantize.max_bytes
    if budget is None:
        return
    # Four bits, and half-precision scales with zero points over blocks of 128.
    least = int(resolved.model.parameters * (0.5 + 2.5 / 128))
    if budget < least:
        raise InputError(
            f"quantize.max_bytes: {budget} is out of reach; the 4-bit weights alone take {least} bytes"
        )
