"""Several adapters into one, with PEFT's own arithmetic, on a model that consists of the adapted layers alone.

Task arithmetic: https://arxiv.org/abs/2212.04089, TIES: https://arxiv.org/abs/2306.01708, DARE:
https://arxiv.org/abs/2311.03099
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from edgepeft.adapters.keys import PREFIX
from edgepeft.combination.methods import Combination, check_combination
from edgepeft.compat.peft_devices import adapter_stays_put
from edgepeft.errors import InputError, one_line
from edgepeft.merging.lora import LoraFactors
from edgepeft.utils.finite import all_finite


def combine(adapters: Sequence[LoraFactors], how: Combination) -> LoraFactors:
    """One LoRA out of several. Ranks may differ: smaller ones are filled up with zeros, which changes nothing.

    Modules that only some adapters have keep what those say. Raises InputError for weights, densities and shapes
    that don't go together.
    """
    check_combination(how, len(adapters))
    shapes = module_shapes(adapters)
    # Side by side, factors need not be of one rank; everywhere else they are added up one by one.
    largest = max(adapter.rank for adapter in adapters)
    ranks = [adapter.rank if how.method == "cat" else largest for adapter in adapters]
    model = _with_adapters(
        [adapter.padded(rank) for adapter, rank in zip(adapters, ranks, strict=True)], shapes
    )
    torch.manual_seed(how.seed)
    options: dict[str, Any] = {"density": how.density} if how.density is not None else {}
    if "svd" in how.method:
        options |= {"svd_rank": how.rank, "svd_full_matrices": False}
    try:
        with adapter_stays_put(), torch.no_grad():
            model.add_weighted_adapter(
                [str(index) for index in range(len(adapters))],
                list(how.weights),
                "combined",
                combination_type=how.method,
                **options,
            )
    except (ValueError, RuntimeError) as error:
        raise InputError(f"combine: {one_line(error)}") from None
    factors = {}
    for name, module in model.named_modules():
        if "combined" in getattr(module, "lora_A", {}):
            a, b = (getattr(module, part)["combined"].weight.data for part in ("lora_A", "lora_B"))
            scale = module.scaling["combined"]
            factors[name.removeprefix(PREFIX)] = (
                a.contiguous(),
                (scale * b).contiguous(),
            )
    for name, (a, b) in factors.items():
        if not (all_finite(a) and all_finite(b)):
            raise InputError(f"combine: {name} is not finite; the weights are too large")
    return LoraFactors(factors, 1.0)


def module_shapes(adapters: Sequence[LoraFactors]) -> dict[str, tuple[int, int]]:
    """In and out of every adapted module. Raises InputError where two adapters disagree."""
    shapes: dict[str, tuple[int, int]] = {}
    for number, adapter in enumerate(adapters, 1):
        for name, (a, b) in adapter.factors.items():
            own = (a.shape[1], b.shape[0])
            if shapes.setdefault(name, own) != own:
                raise InputError(
                    f"combine: adapter {number} adapts {name} of {own[1]} x {own[0]}, another "
                    f"{shapes[name][1]} x {shapes[name][0]}; they are of different models"
                )
    return shapes


def _with_adapters(adapters: Sequence[LoraFactors], shapes: dict[str, tuple[int, int]]) -> Any:
    """A PeftModel around vacant layers of these shapes, with the adapters named 0, 1, and so on."""
    from peft import LoraConfig, PeftModel

    root = nn.Module()
    for name, (width, height) in shapes.items():
        *path, last = name.split(".")
        parent = root
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = getattr(parent, part)
        parent.add_module(last, nn.Linear(width, height, bias=False, device="meta"))
    model: Any = None
    with adapter_stays_put():
        for index, adapter in enumerate(adapters):
            config = LoraConfig(
                r=adapter.rank,
                # PEFT divides by the rank again.
                lora_alpha=adapter.scaling * adapter.rank,
                target_modules=sorted(adapter.factors),
            )
            if model is None:
                model = PeftModel(root, config, adapter_name=str(index))
            else:
                model.add_adapter(str(index), config)
            modules = dict(model.named_modules())
            for name, (a, b) in adapter.factors.items():
                layer = modules[f"{PREFIX}{name}"]
                layer.lora_A[str(index)].weight = nn.Parameter(a.clone(), requires_grad=False)
                layer.lora_B[str(index)].weight = nn.Parameter(b.clone(), requires_grad=False)
    return model


def relative_error(wanted: LoraFactors, got: LoraFactors) -> float:
    """The share of the change, over all modules (Frobenius), that ``got`` misses of ``wanted``."""
    missed = total = 0.0
    for name in wanted.factors:
        delta = wanted.delta(name)
        other = got.delta(name) if name in got.factors else torch.zeros_like(delta)
        missed += float((delta - other).square().sum())
        total += float(delta.square().sum())
    return math.sqrt(missed / total) if total else 0.0
