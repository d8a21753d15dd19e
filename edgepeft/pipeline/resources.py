"""What a plan will cost, roughly, before anything starts: disk, peak memory, time, bundle sizes.

The figures come from the model's headers and the recipe alone. Times assume that training is bound by matrix
products at a rate measured here for half a second; they are for deciding whether to start, not for promises.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edgepeft.pipeline.kinds.registry import all_kinds
from edgepeft.pipeline.plan import Plan
from edgepeft.runs.folder import is_finished
from edgepeft.stages.job import Stage


@dataclass(frozen=True)
class StageEstimate:
    """One stage's rough cost: bytes of memory at its peak, bytes it leaves on disk, seconds."""

    name: str
    memory_bytes: float
    disk_bytes: float
    seconds: float
    cached: bool

    def as_dict(self) -> dict[str, Any]:
        """JSON form, whole numbers."""
        return {
            "stage": self.name,
            "memory_bytes": int(self.memory_bytes),
            "disk_bytes": int(self.disk_bytes),
            "seconds": round(self.seconds, 1),
            "reused": self.cached,
        }


def disk_needed(plan: Plan) -> int:
    """Bytes that the stages still to run will write, the larger temporary files included."""
    return disk_of((plan, stage) for stage in plan.stages)


def disk_of(stages: Iterable[tuple[Plan, Stage]]) -> int:
    """The same of stages with the plans that they are of."""
    sizes = [
        all_kinds()[stage.kind].disk(plan.resolved, stage.name)
        for plan, stage in stages
        if not is_finished(stage.final, stage.key)
    ]
    return int(1.05 * sum(sizes))


def estimate(plan: Plan, flops_per_second: float | None = None) -> list[StageEstimate]:
    """The rough cost of every stage; ``flops_per_second`` is measured when not given."""
    rate = flops_per_second or measure_flops()
    return [estimate_stage(plan, stage, rate) for stage in plan.stages]


def estimate_stage(plan: Plan, stage: Stage, flops_per_second: float) -> StageEstimate:
    """The rough cost of one stage of a plan."""
    return StageEstimate(
        name=stage.name,
        memory_bytes=memory_of(plan, stage),
        disk_bytes=all_kinds()[stage.kind].disk(plan.resolved, stage.name),
        seconds=all_kinds()[stage.kind].seconds(plan.resolved, flops_per_second),
        cached=is_finished(stage.final, stage.key),
    )


def memory_of(plan: Plan, stage: Stage) -> float:
    """Bytes of memory that a stage takes at its peak, roughly."""
    return all_kinds()[stage.kind].memory(plan.resolved)


def measure_flops() -> float:
    """Float32 operations per second of a matrix product on this machine, from half a second of them."""
    import numpy as np

    side = 768
    left = np.ones((side, side), dtype=np.float32)
    left @ left
    products, started = 0, time.perf_counter()
    while time.perf_counter() - started < 0.5:
        left @ left
        products += 1
    return 2.0 * side**3 * products / (time.perf_counter() - started)
