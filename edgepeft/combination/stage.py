"""The combine stage: the adapters of a recipe into the one that the later stages merge."""

from __future__ import annotations

from pathlib import Path

from edgepeft.checkpoints.base import checkpoint_folder
from edgepeft.combination.folders import combine_folders
from edgepeft.combination.settings import CombineResult, CombineSettings
from edgepeft.stages.job import Job


def run(job: Job[CombineSettings]) -> CombineResult:
    """Stage function. Inputs: ``base`` and ``adapter-0``, ``adapter-1`` and so on. Result: what was combined."""
    facts = combine_folders(
        adapter_folders(job),
        job.settings.how,
        job.out / "adapter",
        model=checkpoint_folder(job.inputs["base"]),
        allow_base_mismatch=job.settings.allow_base_mismatch,
    )
    return CombineResult.model_validate(facts)


def adapter_folders(job: Job[CombineSettings]) -> list[Path]:
    """The folders of the adapters that a job combines, in the order of their weights."""
    return [job.inputs[f"adapter-{index}"] for index in range(len(job.settings.how.weights))]
