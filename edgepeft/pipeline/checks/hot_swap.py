"""What can't be swapped: targets, methods, names of adapters."""

from __future__ import annotations

from edgepeft.adapters.base_parts import trains_biases
from edgepeft.adapters.config_fields import MORE_THAN_FACTORS
from edgepeft.adapters.trained_tables import trained_tables
from edgepeft.errors import InputError
from edgepeft.pipeline.resolved import ResolvedRecipe
from edgepeft.runtime.adapters import check_name
from edgepeft.runtime.devices import CPU


def check_targets(resolved: ResolvedRecipe) -> None:
    """``targets``: hot-swap where a device can't; ``merge.base``: a merge where there is none."""
    for target in resolved.targets:
        if target.swaps and target.profile.provider != CPU:
            raise InputError(
                f"targets: {target.name}: adapters: hot-swap works on CPU targets only; leave it out, or choose "
                "a CPU target"
            )
    if resolved.frozen is not None and resolved.recipe.merge.base == "requantized":
        raise InputError(
            "merge.base: requantized needs a merge, and hot-swap targets merge nothing; remove it"
        )


def check_method(resolved: ResolvedRecipe) -> None:
    """``method``: adapters that hot-swap targets can't load."""
    method = resolved.method
    if resolved.frozen is None or method is None:
        return
    settings = resolved.recipe.method
    if method.peft_type != "LORA" or method.fixed.get("use_dora"):
        raise InputError(
            f"method.name: hot-swap targets can't load adapters of {method.name}; use lora, qlora or rslora"
        )
    for key in MORE_THAN_FACTORS:
        if settings.options.get(key):
            raise InputError(
                f"method.options.{key}: hot-swap targets load plain factors alone; leave it out, or choose "
                "targets without hot-swap"
            )
    if trains_biases(settings.options):
        raise InputError(
            "method.options.bias: hot-swap targets have the same biases for all adapters; leave it out"
        )
    tables = trained_tables(method, settings.target_modules)
    if tables:
        raise InputError(
            f"method.target_modules: hot-swap targets have one embedding and head for all adapters; leave out "
            f"{tables[0]}"
        )
    rank = int(method.common(settings)["rank"])
    for target in resolved.targets:
        if target.swaps and rank > target.asked.adapter_rank:
            raise InputError(
                f"targets: {target.name}: adapter_rank: {target.asked.adapter_rank} is lower than method.rank, "
                f"{rank}; raise it"
            )


def check_names(resolved: ResolvedRecipe) -> None:
    """``adapters``: names that a bundle can't have, or has twice."""
    own = resolved.file.adapter_name
    for adapter in resolved.recipe.adapters:
        check_name(adapter.name)
        if adapter.name == own:
            raise InputError(
                f"adapters: {own}: is the name of the recipe's own adapter; choose another name"
            )
