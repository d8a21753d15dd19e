"""The witness stage: what transformers and PEFT say by themselves, of the merged adapter and of swapped ones."""

from __future__ import annotations

from collections.abc import Iterator

from edgepeft.evaluation.settings import WitnessSettings
from edgepeft.evaluation.witness.probes import limits_of, long_length
from edgepeft.pipeline.costs import START, small, whole_bytes, whole_memory
from edgepeft.pipeline.inputs import ENCODER, Inputs, Weights
from edgepeft.pipeline.kinds.spec import PlannedStage, StageSpec
from edgepeft.pipeline.resolved import ResolvedRecipe
from edgepeft.stages.needs import ADAPTED


def _plan(resolved: ResolvedRecipe, read: Inputs) -> Iterator[PlannedStage]:
    adapted = read.adapted
    if any(not target.swaps for target in resolved.targets):
        yield _asked(resolved, read, "witness", None, adapted)
    if not any(target.swaps for target in resolved.targets):
        return
    frozen = resolved.frozen
    yield _asked(resolved, read, "witness-swapped", None, adapted._replace(frozen=frozen))
    for one in read.further:
        weights = one.weights._replace(frozen=frozen)
        yield _asked(resolved, read, f"witness-{one.name}", one.test, weights)


def _asked(
    resolved: ResolvedRecipe, read: Inputs, name: str, test: str | None, weights: Weights
) -> PlannedStage:
    data, files = read.tested(test)
    settings = WitnessSettings(
        merge=weights.merge,
        frozen=weights.frozen,
        task=resolved.task,
        data=data,
    )
    files = {**read.model(), **files, **weights.files}
    return PlannedStage(name, settings, weights.inputs, files, form=read.form)


def witness_seconds(resolved: ResolvedRecipe, flops: float, passes: float = 1.0) -> float:
    """Seconds of so many passes over what the witness reads."""
    model = resolved.model
    length = long_length(model.context_length, limits_of(model.config))
    load = whole_bytes(model) * 1e-8
    return START + load + passes * (length + 512) * model.parameters * 2 / (0.25 * flops)


WITNESS = StageSpec(
    kind="witness",
    version=2,
    settings=WitnessSettings,
    functions={
        "": "edgepeft.evaluation.witness.stage:run",
        ENCODER: "edgepeft.evaluation.witness.encoders:run",
    },
    needs={"export": (*ADAPTED, "gguf")},
    plan=_plan,
    memory=whole_memory,
    disk=small,
    seconds=witness_seconds,
)
