"""What of a model a target, an exporter or a runtime can't do."""

from __future__ import annotations

from edgepeft.adapters.base_needs import check_tokens
from edgepeft.bundle.layout import check_layout
from edgepeft.checkpoints.rotary import rotary_switch
from edgepeft.errors import InputError
from edgepeft.models.checks import check_head_size, check_headers, check_label_head
from edgepeft.pipeline.resolved import ResolvedRecipe
from edgepeft.targets import find_exporter


def check_model(resolved: ResolvedRecipe) -> None:
    """``model``: what no exporter of the targets takes; ``targets``: devices that pass over what it needs."""
    model = resolved.given
    model.require_sizes()
    exporters = {target.profile.exporter for target in resolved.targets}
    for name in sorted(exporters):
        refusal = find_exporter(name).refuses(model)
        if refusal:
            raise InputError(f"model: {resolved.recipe.model}: {refusal}")
    check_headers(model)
    if "decoder" in exporters:
        check_head_size(model)
    for target in resolved.targets:
        for key in target.profile.ignored:
            if model.config.get(key):
                raise InputError(
                    f"targets: {target.name}: {target.profile.provider} ignores {key}, which "
                    f"{model.architecture} needs; choose another target"
                )


def check_head(resolved: ResolvedRecipe) -> None:
    """``model``: a head over labels that is not whole."""
    check_label_head(resolved.given, resolved.task)


def check_vocabulary(resolved: ResolvedRecipe) -> None:
    """``model``: ids of the tokenizer that the embedding has no rows for."""
    check_tokens(resolved.model, resolved.needs, resolved.recipe.data.tokens)


def check_runtimes(resolved: ResolvedRecipe) -> None:
    """``layout``: runtimes that can't load such a bundle."""
    check_layout(
        resolved.recipe.layout,
        resolved.task,
        {target.name: target.profile.js_dtype for target in resolved.targets},
        [target.name for target in resolved.targets if target.swaps],
        rotary_switch(resolved.model.config),
    )
