"""The reference stage: the unmerged adapter on its base, and each further one, on all probes."""

from __future__ import annotations

from collections.abc import Iterator

from edgepeft.config.sections import Merge
from edgepeft.evaluation.settings import ReferenceSettings
from edgepeft.pipeline.costs import START, small, tested_tokens, whole_memory
from edgepeft.pipeline.inputs import ENCODER, Inputs, Weights, at_default
from edgepeft.pipeline.kinds.spec import PlannedStage, StageSpec
from edgepeft.pipeline.resolved import ResolvedRecipe
from edgepeft.stages.needs import ADAPTED


def _plan(resolved: ResolvedRecipe, read: Inputs) -> Iterator[PlannedStage]:
    yield _of_adapter(resolved, read, "reference", None, read.adapted)
    for one in read.further:
        yield _of_adapter(resolved, read, f"reference-{one.name}", one.test, one.weights)


def _of_adapter(
    resolved: ResolvedRecipe, read: Inputs, name: str, test: str | None, weights: Weights
) -> PlannedStage:
    # However it is merged, the adapter is measured on what it was trained on.
    merge: Merge = at_default(weights.merge, "base")
    data, files = read.tested(test)
    settings = ReferenceSettings(merge=merge, task=resolved.task, data=data)
    return PlannedStage(name, settings, weights.inputs, {**files, **weights.files}, form=read.form)


def _seconds(resolved: ResolvedRecipe, flops: float) -> float:
    return START + 2 * tested_tokens(resolved) * resolved.model.parameters * 2 / (0.5 * flops)


REFERENCE = StageSpec(
    kind="reference",
    version=8,
    settings=ReferenceSettings,
    functions={
        "": "edgepeft.evaluation.reference:run",
        ENCODER: "edgepeft.evaluation.encoders:reference",
    },
    needs={"export": ADAPTED},
    plan=_plan,
    memory=whole_memory,
    disk=small,
    seconds=_seconds,
)
