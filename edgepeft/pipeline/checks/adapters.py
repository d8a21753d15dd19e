"""What of given adapters can't be combined, or can't go with the model."""

from __future__ import annotations

from edgepeft.adapters.provenance import ASSUMED, read_provenance
from edgepeft.checkpoints.rotary import rotates_whole_heads
from edgepeft.combination.methods import REGMEAN, Combination, check_combination
from edgepeft.errors import InputError
from edgepeft.models.layer_kinds import keeps_states
from edgepeft.models.tasks import GENERATION
from edgepeft.pipeline.resolved import ResolvedRecipe


def check_combination_of(resolved: ResolvedRecipe) -> None:
    """``combine`` and the list of ``adapter`` that it combines."""
    parts, combine = resolved.recipe.adapter, resolved.recipe.combine
    if not isinstance(parts, list):
        return
    how = Combination(
        combine.method, tuple(part.weight for part in parts), combine.density, combine.rank
    )
    fits = combine.method == REGMEAN
    for index, part in enumerate(parts):
        if fits and part.rows is None:
            raise InputError(
                f"adapter.{index}.rows: regmean needs rows of every adapter's task; name their file"
            )
        if part.rows is not None and not fits:
            raise InputError(
                f"adapter.{index}.rows: is used by combine.method regmean only; remove it"
            )
    check_combination(how, len(parts), rows=fits)


def check_trained_on(resolved: ResolvedRecipe) -> None:
    """``adapter``: one that says it was trained on another grid than the base came on."""
    model = resolved.given
    if not model.on_own_grid:
        return
    for header in (resolved.adapter, *resolved.parts, *resolved.further):
        if header is None:
            continue
        # The recipe's own word stands in the header.
        said = read_provenance(header.path)
        of_eight_bits = said.grid.kind == "int8" and model.quantization == "bitsandbytes"
        if said.source != ASSUMED and said.grid.kind != "none" and not of_eight_bits:
            raise InputError(
                f"adapter: {header.title} was trained on {said.grid.kind} ({said.source}), and the weights of "
                f"{resolved.recipe.model} are {model.quantization}'s; name the model that it was trained on"
            )


def check_prefix(resolved: ResolvedRecipe) -> None:
    """A prefix is learned for one rotation of positions, and a bottleneck for modules of some names."""
    if resolved.adapter is not None:
        key, carried = "adapter", resolved.adapter.carried
    elif resolved.method is not None:
        key, carried = "method.name", resolved.method.carried
    else:
        return
    config = resolved.given.config
    rotary = [config.get(name) or {} for name in ("rope_parameters", "rope_scaling")]
    kinds = {one.get("rope_type") or one.get("type") for one in rotary}
    if carried == "prefix" and "longrope" in kinds:
        raise InputError(
            f"{key}: prefix tuning does not work with the longrope of {resolved.given.architecture}, whose "
            "positions depend on the length of the prompt; use prompt_tuning"
        )
    if carried == "prefix" and not rotates_whole_heads(config):
        raise InputError(
            f"{key}: prefix tuning does not work with {resolved.given.architecture}, which rotates neighbouring "
            "numbers or a part of each attention head; use prompt_tuning"
        )
    if carried == "prefix" and keeps_states(config):
        raise InputError(
            f"{key}: prefix tuning does not work with {resolved.given.architecture}, whose convolutions keep no "
            "keys and values; use prompt_tuning"
        )
    names = [name.removesuffix(".weight") for name in resolved.given.tensors]
    if carried == "layers" and resolved.given.kind == "folder" and resolved.task == GENERATION:
        for module in ("o_proj", "down_proj"):
            if not any(name.endswith(module) for name in names):
                raise InputError(
                    f"{key}: bottleneck adapters lie behind {module}, which {resolved.given.architecture} has "
                    "not; use lora"
                )
