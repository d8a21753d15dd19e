"""The base stage: the model as later stages read it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from edgepeft.checkpoints.base_stage import BaseSettings
from edgepeft.models.tasks import GENERATION
from edgepeft.pipeline.costs import LIBRARIES_BYTES, lazy_seconds, whole_bytes
from edgepeft.pipeline.inputs import ENCODER, Inputs
from edgepeft.pipeline.kinds.spec import PlannedStage, StageSpec
from edgepeft.pipeline.resolved import ResolvedRecipe
from edgepeft.stages.needs import MODEL


def _plan(resolved: ResolvedRecipe, read: Inputs) -> Iterator[PlannedStage]:
    needs, data = resolved.needs, resolved.recipe.data
    settings = BaseSettings(
        task=resolved.task,
        labels=resolved.labels,
        tokens=tuple(data.tokens),
        rows=needs.rows,
        own_head=needs.own_head,
        paired=resolved.paired,
        scoring=resolved.scoring,
    )
    files = {**read.model(), **read.own()}
    yield PlannedStage("base", settings, {}, files, form=read.form)


def _memory(resolved: ResolvedRecipe) -> float:
    model, work = resolved.model, 0.0
    if model.kind == "gguf":
        work = 2.2 * whole_bytes(model)
    elif model.rounded is not None:
        # A weight's codes, its values, and zeros and scales spread over them.
        sizes = (math.prod(weight.shape) for weight in model.rounded.weights.values())
        work = 5 * 4.0 * max(sizes)
    return LIBRARIES_BYTES + work


def _disk(resolved: ResolvedRecipe, name: str) -> float:
    model = resolved.model
    if model.kind == "gguf" or model.rounded is not None or resolved.task != GENERATION:
        return whole_bytes(resolved.model)
    needs = resolved.needs
    changed = needs.rows is not None or needs.own_head or resolved.recipe.data.tokens
    return resolved.model.file_bytes * 1.1 if changed else 5e6


BASE = StageSpec(
    kind="base",
    version=6,
    settings=BaseSettings,
    functions={
        "": "edgepeft.checkpoints.base:run",
        ENCODER: "edgepeft.checkpoints.encoder_base:run",
    },
    needs={"export": (*MODEL, "gguf")},
    plan=_plan,
    memory=_memory,
    disk=_disk,
    seconds=lazy_seconds,
)
