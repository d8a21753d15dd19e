"""The combine stage: the adapters of a recipe into the one that the later stages merge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepeft.checkpoints.base import checkpoint_folder
from edgepeft.combination.folders import combine_folders
from edgepeft.combination.methods import Combination
from edgepeft.stages.job import Job


def run(job: Job) -> dict[str, Any]:
    """Stage function. Inputs: ``base`` and ``adapter-0``, ``adapter-1`` and so on. Result: what was combined."""
    folders, how = asked_of(job)
    facts = combine_folders(
        folders,
        how,
        job.out / "adapter",
        model=checkpoint_folder(job.inputs["base"]),
        allow_base_mismatch=job.settings["merge"]["allow_base_mismatch"],
    )
    return outcome(facts)


def asked_of(job: Job) -> tuple[list[Path], Combination]:
    """The adapters' folders and how they are to be combined."""
    settings = job.settings["combine"]
    weights = tuple(settings["weights"])
    how = Combination(
        settings["method"], weights, settings["density"], settings["rank"], settings["seed"]
    )
    return [job.inputs[f"adapter-{index}"] for index in range(len(weights))], how


def outcome(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the stage's manifest says of the facts of a combination."""
    return {key: facts[key] for key in ("method", "weights", "density", "rank", "of")}
