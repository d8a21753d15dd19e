"""A stage: how much each file of a bundle weighs, written down before the bundle is proven."""

from __future__ import annotations

import json
from collections.abc import Iterator

from edgepeft.pipeline.inputs import Inputs
from edgepeft.pipeline.kinds.spec import PlannedStage, StageSpec
from edgepeft.pipeline.resolved import ResolvedRecipe
from edgepeft.stages.job import Job, StageResult, StageSettings


class WeighSettings(StageSettings):
    """Which files are weighed."""

    pattern: str = "*"


class WeighResult(StageResult):
    """Bytes of all of them."""

    bytes: int


def run(job: Job[WeighSettings]) -> WeighResult:
    """Stage function. Input: ``bundle``."""
    bundle = job.inputs["bundle"]
    files = [path for path in bundle.rglob(job.settings.pattern) if path.is_file()]
    sizes = {path.relative_to(bundle).as_posix(): path.stat().st_size for path in files}
    (job.out / "weights.json").write_text(json.dumps(sizes))
    return WeighResult(bytes=sum(sizes.values()))


def _plan(resolved: ResolvedRecipe, read: Inputs) -> Iterator[PlannedStage]:
    for target in resolved.targets:
        bundle = {"bundle": f"export-{target.name}"}
        yield PlannedStage(f"weigh-{target.name}", WeighSettings(pattern="*.onnx*"), bundle, {})


WEIGH = StageSpec(
    kind="weigh",
    version=1,
    settings=WeighSettings,
    functions={"": "edgepeft_sample.stage:run"},
    needs={},
    plan=_plan,
    memory=lambda resolved: 1e6,
    disk=lambda resolved, name: 1e3,
    seconds=lambda resolved, flops: 1.0,
    after="export",
)
