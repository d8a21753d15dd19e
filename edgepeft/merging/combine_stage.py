"""The combine stage: the adapters of a recipe into the one that the later stages merge."""

from __future__ import annotations

from typing import Any

from edgepeft.checkpoints.base import checkpoint_folder
from edgepeft.merging.adapter_files import combine_folders
from edgepeft.merging.combinations import Combination
from edgepeft.stage import Job


def run(job: Job) -> dict[str, Any]:
    """Stage function. Inputs: ``base`` and ``adapter-0``, ``adapter-1`` and so on. Result: what was combined."""
    settings = job.settings["combine"]
    weights = tuple(settings["weights"])
    how = Combination(
        settings["method"], weights, settings["density"], settings["rank"], settings["seed"]
    )
    facts = combine_folders(
        [job.inputs[f"adapter-{index}"] for index in range(len(weights))],
        how,
        job.out / "adapter",
        model=checkpoint_folder(job.inputs["base"]),
        allow_base_mismatch=job.settings["merge"]["allow_base_mismatch"],
    )
    return {key: facts[key] for key in ("method", "weights", "density", "rank", "of")}
