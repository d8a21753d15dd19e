"""The combine stage: a list of adapters becomes one."""

from __future__ import annotations

import math
from collections.abc import Iterator

from edgepeft.combination.methods import MOMENT_BYTES, REGMEAN, Combination
from edgepeft.combination.settings import CombineSettings
from edgepeft.pipeline.costs import (
    LIBRARIES_BYTES,
    START,
    lazy_memory,
    lazy_seconds,
    small,
    tokens_per_row,
    whole_bytes,
)
from edgepeft.pipeline.inputs import Files, Inputs
from edgepeft.pipeline.kinds.spec import PlannedStage, StageSpec
from edgepeft.pipeline.resolved import ResolvedRecipe
from edgepeft.stages.needs import ADAPTED

FITTED = "fitted"
"""The form of methods that are fitted to rows."""


def _plan(resolved: ResolvedRecipe, read: Inputs) -> Iterator[PlannedStage]:
    parts = resolved.recipe.adapter
    if not isinstance(parts, list):
        return
    asked = resolved.recipe.combine
    files: Files = {f"adapter-{i}": read.adapter(header) for i, header in enumerate(resolved.parts)}
    settings = CombineSettings(
        how=Combination(
            asked.method,
            tuple(part.weight for part in parts),
            asked.density,
            asked.rank,
            asked.seed,
        ),
        allow_base_mismatch=resolved.recipe.merge.allow_base_mismatch,
    )
    form = ""
    if _is_fitted(resolved):
        form = FITTED
        data = read.data("test", "split_seed", "max_length", "max_test_rows")
        settings = settings.model_copy(update={"rows": asked.rows, "data": data})
        files |= {f"rows-{i}": read.file(part.rows) for i, part in enumerate(parts)}
        files |= read.template()
        _note_seen_rows(resolved, read, files)
    yield PlannedStage("combine", settings, {"base": "base"}, files, form=form)


def _note_seen_rows(resolved: ResolvedRecipe, read: Inputs, files: Files) -> None:
    test = resolved.recipe.data.test_file
    if test is None:
        return
    _, tested = read.file(test)
    for i in range(len(resolved.parts)):
        if files[f"rows-{i}"][1] == tested:
            read.note(
                f"adapter.{i}.rows: is the same file as data.test, so the report measures on rows that regmean "
                "saw"
            )


def _is_fitted(resolved: ResolvedRecipe) -> bool:
    return resolved.recipe.combine.method == REGMEAN


def _moments(resolved: ResolvedRecipe) -> float:
    """Bytes of the second moments of what every layer's products read, for every adapter."""
    model = resolved.model
    layer = 6.0 * model.hidden_size**2 + model.intermediate_size**2
    return 4.0 * layer * model.layers * len(resolved.parts)


def _memory(resolved: ResolvedRecipe) -> float:
    if not _is_fitted(resolved):
        return lazy_memory(resolved)
    inverse = 24.0 * resolved.model.intermediate_size**2
    moments = min(_moments(resolved), MOMENT_BYTES)
    return LIBRARIES_BYTES + 1.1 * whole_bytes(resolved.model) + moments + inverse


def _seconds(resolved: ResolvedRecipe, flops: float) -> float:
    if not _is_fitted(resolved):
        return lazy_seconds(resolved, flops)
    recipe = resolved.recipe
    rows = recipe.combine.rows * len(resolved.parts)
    read = rows * tokens_per_row(resolved.test_rows, recipe.data.max_length)
    passes = math.ceil(_moments(resolved) / MOMENT_BYTES)
    return START + passes * read * resolved.model.parameters * 2 / (0.5 * flops)


COMBINE = StageSpec(
    kind="combine",
    version=3,
    settings=CombineSettings,
    functions={
        "": "edgepeft.combination.stage:run",
        FITTED: "edgepeft.combination.fitting:run",
    },
    needs={"export": ADAPTED},
    plan=_plan,
    memory=_memory,
    disk=small,
    seconds=_seconds,
)
