"""The quantize stage of lossless targets: the base's own 4-bit codes, and the adapter unmerged beside them.

Nothing is rounded that training had not rounded: the codes are those bitsandbytes held while the adapter was
trained, bit for bit, their scales un-nested to float32, and the adapter's factors stay in float32. The output has
the form of the other quantize stage, with parts ``codes``, ``absmax``, ``lora_a`` and ``lora_b``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from edgepeft.adapters.attach import open_adapter
from edgepeft.adapters.provenance import ASSUMED
from edgepeft.adapters.training_grid import grid_codes
from edgepeft.checkpoints.base import checkpoint_folder, open_base
from edgepeft.checkpoints.base_stage import base_facts
from edgepeft.checkpoints.skeleton import (
    build_skeleton,
    head_and_embedding_names,
    linear_weight_names,
)
from edgepeft.checkpoints.source import TensorSource, TensorSpec
from edgepeft.errors import InputError
from edgepeft.merging.low_rank import low_rank_factors
from edgepeft.merging.settings import AdapterSettings, on_stored_grid
from edgepeft.merging.stage import adapter_folder, frozen_base, job_provenance
from edgepeft.quantization.packed_weights import Parts, write_codes, write_plan
from edgepeft.quantization.plan import QuantizationPlan, RoundedWeight
from edgepeft.quantization.settings import QuantizeResult
from edgepeft.stages.job import Job


def run(job: Job[AdapterSettings]) -> QuantizeResult:
    """Stage function. Inputs: ``base`` and ``adapter`` or ``train``; of a base alone, the codes stand alone.

    Raises InputError where the adapter was not trained on a 4-bit base, is no plain LoRA, or a weight's rows are
    no whole number of blocks.
    """
    frozen = job.settings.frozen
    base: TensorSource = frozen_base(job) if frozen is None else open_base(job.inputs["base"])
    skeleton = build_skeleton(checkpoint_folder(job.inputs["base"]), base.specs)
    head, embedding = head_and_embedding_names(skeleton)
    known = "as trained on"
    if frozen is None:
        provenance = job_provenance(job)
        grid, quantized = provenance.grid, provenance.quantized
        if provenance.source == ASSUMED:
            known = "as assumed of its training"
    else:
        frozen = on_stored_grid(base_facts(job.inputs["base"]), frozen)
        grid, quantized = frozen.grid, frozen.quantized
    if grid.kind == "none":
        raise InputError(
            "a lossless target carries 4-bit codes, and this adapter was trained at full precision; choose "
            "cpu-fp32, which loses nothing there"
        )
    linear = linear_weight_names(skeleton)
    chosen = linear if quantized is None else list(quantized)
    factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]] = {}
    if frozen is None:
        factors = low_rank_factors(skeleton, open_adapter(adapter_folder(job)), set(chosen))
    entries: dict[str, RoundedWeight] = {}
    specs: dict[str, TensorSpec] = {}
    for name in chosen:
        rows, width = base.specs[name].shape
        if width % grid.block_size:
            raise InputError(
                f"{name}: its width {width} is no multiple of {grid.block_size}, the block size it was trained "
                "in; choose cpu-fp32, which keeps the merged weights as they are"
            )
        rank = factors[name][0].shape[0] if name in factors else 0
        entries[name] = RoundedWeight(shape=(rows, width), grid=grid, rank=rank)
        specs[f"{name}.codes"] = TensorSpec((rows, width // 2), torch.uint8)
        specs[f"{name}.absmax"] = TensorSpec((rows, width // grid.block_size), torch.float32)
        if rank:
            specs[f"{name}.lora_a"] = TensorSpec((rank, width), torch.float32)
            specs[f"{name}.lora_b"] = TensorSpec((rows, rank), torch.float32)

    def units() -> Iterator[Parts]:
        for name in chosen:
            codes, scales = grid_codes(base.load(name), grid)
            parts = {"codes": codes, "absmax": scales}
            if name in factors:
                parts["lora_a"], parts["lora_b"] = factors[name]
            yield {name: parts}

    write_codes(job.out, job.events, specs, units())
    plan = QuantizationPlan(algorithm=None, weights=entries, head=head, embedding=embedding)
    write_plan(job.out, plan)
    ranks = sorted({entry.rank for entry in entries.values()} - {0})
    beside = f", with unmerged LoRA of rank {'/'.join(map(str, ranks))}" if ranks else ""
    return QuantizeResult(
        algorithm=None,
        linear=f"{grid.kind} {known}{beside}",
        head="float",
        embedding="float",
        tied=head == embedding,
        bytes=sum(spec.nbytes for spec in specs.values()),
    )
