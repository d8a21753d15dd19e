"""The float-graph stage: the float form of every quantized graph, once for targets whose graphs differ in their
weights alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgepeft.evaluation.settings import FloatGraphSettings
from edgepeft.evaluation.witness.exact import OF_EXPORT, float_target, is_exact
from edgepeft.pipeline.costs import LIBRARIES_BYTES, largest_bytes, of_whole, whole_bytes
from edgepeft.pipeline.inputs import Inputs
from edgepeft.pipeline.kinds.export import EXPORT, exported
from edgepeft.pipeline.kinds.spec import PlannedStage, StageSpec
from edgepeft.pipeline.kinds.witness import witness_seconds
from edgepeft.pipeline.resolved import ResolvedRecipe, ResolvedTarget
from edgepeft.stages.needs import ADAPTED


def _plan(resolved: ResolvedRecipe, read: Inputs) -> Iterator[PlannedStage]:
    for target in resolved.targets:
        if is_exact(target.profile):
            continue
        name = resolved.float_graph(target)
        if target.swaps:
            adapt = f"adapt-{target.name}"
            own = f"{adapt}-{resolved.file.adapter_name}"
            yield _of_target(resolved, read, name, target, "witness-swapped", own)
            for adapter in resolved.recipe.adapters:
                further = f"{adapt}-{adapter.name}"
                witness = f"witness-{adapter.name}"
                yield _of_target(resolved, read, f"{name}-{adapter.name}", target, witness, further)
        elif name not in read.planned:
            yield _of_target(resolved, read, name, target, "witness", None)


def _of_target(
    resolved: ResolvedRecipe,
    read: Inputs,
    name: str,
    target: ResolvedTarget,
    witness: str,
    adapter: str | None,
) -> PlannedStage:
    settings, inputs, files = exported(resolved, read, target, float_target(target.profile))
    return PlannedStage(
        name,
        FloatGraphSettings(exporter=target.profile.exporter, export=settings),
        {
            "witness": witness,
            **({} if adapter is None else {"adapter": adapter}),
            **{f"{OF_EXPORT}{key}": stage for key, stage in inputs.items()},
        },
        {f"{OF_EXPORT}{key}": file for key, file in files.items()},
    )


def _memory(resolved: ResolvedRecipe) -> float:
    return LIBRARIES_BYTES + 2 * whole_bytes(resolved.model) + largest_bytes(resolved.model)


FLOAT_GRAPH = StageSpec(
    kind="float-graph",
    # It exports too: what changes that stage's output changes what is said here.
    version=EXPORT.version + 2,
    settings=FloatGraphSettings,
    functions={"": "edgepeft.evaluation.witness.float_graph:run"},
    needs={
        "export": (*ADAPTED, "onnx_ir"),
        "cpu": ("onnxruntime", "onnxruntime_genai"),
    },
    plan=_plan,
    memory=_memory,
    disk=of_whole,
    seconds=lambda resolved, flops: witness_seconds(resolved, flops, passes=3.0),
)
