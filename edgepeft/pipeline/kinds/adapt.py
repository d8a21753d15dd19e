"""The adapt stage: the recipe's own adapter and its further ones put into hot-swap bundles."""

from __future__ import annotations

from collections.abc import Iterator

from edgepeft.bundle.layout import ADAPTERS
from edgepeft.export.settings import AdaptSettings
from edgepeft.pipeline.costs import lazy_memory, lazy_seconds
from edgepeft.pipeline.inputs import Inputs
from edgepeft.pipeline.kinds.spec import PlannedStage, StageSpec
from edgepeft.pipeline.resolved import ResolvedRecipe
from edgepeft.pipeline.sizes import adapter_elements


def _plan(resolved: ResolvedRecipe, read: Inputs) -> Iterator[PlannedStage]:
    for target in resolved.targets:
        if not target.swaps:
            continue
        bundle = f"export-{target.name}"
        own = (resolved.file.adapter_name, read.adapted)
        for name, weights in (own, *((one.name, one.weights) for one in read.further)):
            yield PlannedStage(
                f"adapt-{target.name}-{name}",
                AdaptSettings(merge=weights.merge, name=name),
                {**weights.inputs, "bundle": bundle},
                weights.files,
                final=read.planned[bundle] / ADAPTERS / name,
            )


ADAPT = StageSpec(
    kind="adapt",
    version=3,
    settings=AdaptSettings,
    functions={"": "edgepeft.hot_swap.stage:run"},
    needs={},
    plan=_plan,
    memory=lazy_memory,
    disk=lambda resolved, name: adapter_elements(resolved) * 6,
    seconds=lazy_seconds,
    writes="adapter",
    after="export",
)
