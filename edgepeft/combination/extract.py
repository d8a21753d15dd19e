"""A LoRA out of the difference of two checkpoints of one architecture."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch

from edgepeft.adapters.provenance import Provenance, TrainingGrid
from edgepeft.checkpoints.fingerprint import fingerprint
from edgepeft.checkpoints.fit import HARMLESS
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.skeleton import build_skeleton, linear_weight_names
from edgepeft.combination.folders import refuse_filled, refuse_rounded
from edgepeft.errors import InputError
from edgepeft.events import Events
from edgepeft.merging.lora import LoraFactors, decompose, write_lora
from edgepeft.utils.whole_files import new_folder


def extract_folder(
    base: Path, tuned: Path, rank: int, out: Path, events: Events | None = None
) -> dict[str, Any]:
    """Write the difference of two checkpoints of one architecture as a LoRA; what it misses of every part.

    Only linear layers are taken; what else changed is listed with its share of the change. Raises InputError.
    """
    refuse_filled(out)
    refuse_rounded(base, "extracting an adapter")
    before, after = SafetensorsSource.from_folder(base), SafetensorsSource.from_folder(tuned)
    unlike = [
        name
        for name, spec in before.specs.items()
        if name not in after.specs or after.specs[name].shape != spec.shape
    ]
    if unlike:
        raise InputError(
            f"{tuned}: {unlike[0]} is missing or of another shape than in {base}; not tuned from it"
        )
    surplus = [
        name
        for name in after.specs
        if name not in before.specs and not any(re.search(one, name) for one in HARMLESS)
    ]
    if surplus:
        raise InputError(
            f"{tuned}: holds {surplus[0]}, which {base} does not ({len(surplus)} such tensors); not tuned from it"
        )
    linear = set(linear_weight_names(build_skeleton(base)))
    factors: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    taken = missed = beside = 0.0
    left_out: list[str] = []
    names = list(before.specs)
    for step, name in enumerate(names, 1):
        delta = after.load(name).float() - before.load(name).float()
        size = float(delta.square().sum())
        if not math.isfinite(size):
            raise InputError(f"{tuned}: {name} is not finite")
        if name in linear and size:
            a, b, error = decompose(delta, rank)
            factors[name.removesuffix(".weight")] = (a, b)
            taken += size
            missed += size * error**2
        elif size:
            left_out.append(name)
            beside += size
        if events is not None:
            events.progress(step, len(names))
    if not factors:
        raise InputError(
            f"{tuned}: no linear layer differs from {base}; there is nothing to extract"
        )
    record = {"name": str(base), "fingerprint": fingerprint(before)}
    with new_folder(out) as staged:
        write_lora(LoraFactors(factors, 1.0), staged, str(base))
        Provenance(TrainingGrid("none"), (), "edgepeft", "extracted", record).write(staged)
    return {
        "adapter": str(out.resolve()),
        "rank": rank,
        "modules": len(factors),
        "error": math.sqrt(missed / taken),
        "left_out": left_out,
        "left_out_share": math.sqrt(beside / (beside + taken)),
    }
