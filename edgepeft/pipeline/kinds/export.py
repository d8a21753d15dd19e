"""The export stage: a target's bundle, made by the exporter that its profile names."""

from __future__ import annotations

from collections.abc import Iterator

from edgepeft.export.settings import ExportSettings
from edgepeft.pipeline.costs import lazy_memory, lazy_seconds
from edgepeft.pipeline.inputs import ENCODER, Files, Inputs
from edgepeft.pipeline.kinds.spec import PlannedStage, StageSpec
from edgepeft.pipeline.resolved import ResolvedRecipe, ResolvedTarget
from edgepeft.pipeline.sizes import bundle_bytes
from edgepeft.stages.needs import MODEL
from edgepeft.targets import TargetProfile


def _plan(resolved: ResolvedRecipe, read: Inputs) -> Iterator[PlannedStage]:
    for target in resolved.targets:
        settings, inputs, files = exported(resolved, read, target, target.profile)
        yield PlannedStage(
            f"export-{target.name}",
            settings,
            inputs,
            {**files, **read.answer()},
            form=target.profile.exporter,
            final=read.bundle(target.name),
        )


def exported(
    resolved: ResolvedRecipe, read: Inputs, target: ResolvedTarget, profile: TargetProfile
) -> tuple[ExportSettings, dict[str, str], Files]:
    """Settings, inputs and files of a target's export, for its own ``profile`` or that of its float form."""
    weights, asked = read.weights(target), target.asked
    settings = ExportSettings(
        merge=weights.merge,
        frozen=weights.frozen,
        target=profile,
        accuracy_level=target.accuracy_level if profile.bits else profile.accuracy_level,
        template=resolved.recipe.data.template,
        control_tokens=resolved.recipe.data.control_tokens,
        base_name=resolved.base_name,
        layout=resolved.recipe.layout,
    )
    if target.swaps:
        modules = asked.adapter_modules
        settings = settings.model_copy(
            update={
                "adapter_rank": asked.adapter_rank,
                "adapter_modules": modules if isinstance(modules, str) else tuple(modules),
            }
        )
    inputs = weights.inputs
    if profile.quantized:
        inputs = {**inputs, "quantize": resolved.quantize_stage(target)}
    return settings, inputs, {**weights.files, **read.template()}


def _disk(resolved: ResolvedRecipe, name: str) -> float:
    return bundle_bytes(resolved, resolved.target(name.removeprefix("export-")))


EXPORT = StageSpec(
    kind="export",
    version=10,
    settings=ExportSettings,
    functions={},
    needs={"export": (*MODEL, "onnx_ir"), "cpu": ("onnxruntime_genai",)},
    form_needs={ENCODER: {"export": ("optimum", "onnxscript")}},
    plan=_plan,
    memory=lazy_memory,
    disk=_disk,
    seconds=lazy_seconds,
    writes="bundle",
)
