"""The adapt stage: a recipe's adapter put into its target's bundle."""

from __future__ import annotations

from edgepeft.export.settings import AdaptResult, AdaptSettings
from edgepeft.hot_swap.factors_file import write_factors
from edgepeft.hot_swap.peft_folder import read_lora
from edgepeft.merging.stage import adapter_folder
from edgepeft.runtime.bundle import Bundle
from edgepeft.runtime.slots import binding, slots_of
from edgepeft.stages.job import Job


def run(job: Job[AdaptSettings]) -> AdaptResult:
    """Stage function. Inputs: ``bundle`` and ``adapter`` or ``train``. Raises InputError."""
    bundle = Bundle.open(job.inputs["bundle"], check="sizes")
    slots = slots_of(bundle)
    merge = job.settings.merge
    lora = read_lora(
        adapter_folder(job),
        slots,
        grid=merge.grid,
        allow_base_mismatch=merge.allow_base_mismatch,
    )
    facts = write_factors(lora, slots, binding(bundle), job.out)
    return AdaptResult(adapter=job.settings.name, **facts)
