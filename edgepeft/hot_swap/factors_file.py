"""A LoRA laid out for a bundle's slots, and written as onnxruntime's adapter file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgepeft.hot_swap.peft_folder import Array, LoraFolder
from edgepeft.runtime.adapters import FACTORS
from edgepeft.runtime.slots import Slot, Slots, short_binding

_VERSION = 1


def slot_inputs(lora: LoraFolder, slot: Slot) -> dict[str, Array]:
    """What an adapter puts into one slot: A float32 [1, width, R] and B float32 [1, R, count].

    R is the sum of its modules' ranks; empty where the adapter leaves the slot's modules alone.
    """
    modules = [module for module in slot.modules if module in lora.factors]
    if not modules:
        return {}
    starts: dict[str, int] = {}
    total = 0
    for module in modules:
        starts[module] = total
        total += lora.factors[module][0].shape[0]
    down = np.concatenate([lora.factors[module][0] for module in modules]).T
    up = np.zeros((total, slot.count), np.float32)
    column = 0
    for run in slot.runs:
        size = run.last - run.first
        if run.module in starts:
            b = lora.factors[run.module][1][run.first : run.last]
            start = starts[run.module]
            up[start : start + b.shape[1], column : column + size] = b.T
        column += size
    name_a, name_b = slot.inputs
    return {name_a: np.ascontiguousarray(down)[None], name_b: up[None]}


def write_factors(lora: LoraFolder, slots: Slots, bound_to: str, folder: Path) -> dict[str, Any]:
    """Write the adapter file into ``folder``; the facts that its manifest keeps. ``bound_to`` is the binding."""
    from onnxruntime import AdapterFormat, OrtValue

    inputs: dict[str, Array] = {}
    for slot in slots.slots:
        inputs.update(slot_inputs(lora, slot))
    made = AdapterFormat()
    made.set_adapter_version(_VERSION)
    made.set_model_version(short_binding(bound_to))
    made.set_parameters(
        {name: OrtValue.ortvalue_from_numpy(value) for name, value in inputs.items()}
    )
    made.export_adapter(str((folder / FACTORS).absolute()))
    grid = lora.provenance.grid
    return {
        "binding": bound_to,
        "rank": lora.rank,
        "alpha": lora.config.get("lora_alpha"),
        "modules": len(lora.factors),
        "parameters": sum(a.size + b.size for a, b in lora.factors.values()),
        "trained_on": lora.provenance.trained_on,
        "known_from": lora.provenance.source,
        "served_on": slots.served,
        "same_base": slots.exact and grid.as_dict() == dict(slots.grid),
    }
