"""The verify stage: each finished graph, with each adapter it takes, against its reference and its witness."""

from __future__ import annotations

from collections.abc import Iterator

from edgepeft.evaluation.execution import choose_execution
from edgepeft.evaluation.settings import VerifySettings
from edgepeft.evaluation.witness.exact import is_exact
from edgepeft.pipeline.costs import START, largest_bytes, small, tested_tokens
from edgepeft.pipeline.inputs import ENCODER, Inputs
from edgepeft.pipeline.kinds.spec import PlannedStage, StageSpec
from edgepeft.pipeline.resolved import ResolvedRecipe, ResolvedTarget
from edgepeft.pipeline.sizes import bundle_bytes


def _plan(resolved: ResolvedRecipe, read: Inputs) -> Iterator[PlannedStage]:
    for target in resolved.targets:
        if not target.swaps:
            yield _measured(resolved, read, target)
            continue
        own = resolved.file.adapter_name
        yield _measured(resolved, read, target, witness="witness-swapped", adapter=own)
        for adapter in resolved.recipe.adapters:
            name = adapter.name
            yield _measured(
                resolved,
                read,
                target,
                witness=f"witness-{name}",
                adapter=name,
                further=f"-{name}",
            )


def _measured(
    resolved: ResolvedRecipe,
    read: Inputs,
    target: ResolvedTarget,
    *,
    witness: str = "witness",
    adapter: str | None = None,
    further: str = "",
) -> PlannedStage:
    """``further`` ends the names of stages of an adapter that is not the recipe's own."""
    profile = target.profile
    inputs = {
        "bundle": f"export-{target.name}",
        "reference": f"reference{further}",
        "base": "base",
        "witness": witness,
    }
    if not is_exact(profile):
        inputs["float-graph"] = f"{resolved.float_graph(target)}{further}"
    if adapter is not None:
        inputs["adapter"] = f"adapt-{target.name}-{adapter}"
    # What is on this machine enters the key: where a GPU comes, the bundle is verified anew.
    execution = choose_execution(profile.provider, profile.io_dtype, profile.verify_provider)
    settings = VerifySettings(execution=execution)
    name = f"verify-{target.name}{further}"
    return PlannedStage(name, settings, inputs, {}, form=read.form)


def _memory(resolved: ResolvedRecipe) -> float:
    largest = max(bundle_bytes(resolved, target) for target in resolved.targets)
    return 400e6 + largest * 2 + largest_bytes(resolved.model)


def _seconds(resolved: ResolvedRecipe, flops: float) -> float:
    return START + 1.5 * tested_tokens(resolved) * resolved.model.parameters * 2 / (0.25 * flops)


VERIFY = StageSpec(
    kind="verify",
    version=5,
    settings=VerifySettings,
    functions={
        "": "edgepeft.evaluation.verify:run",
        ENCODER: "edgepeft.evaluation.encoders:verify",
    },
    needs={"export": ("torch", "safetensors"), "cpu": ("onnxruntime", "onnxruntime_genai")},
    plan=_plan,
    memory=_memory,
    disk=small,
    seconds=_seconds,
)
