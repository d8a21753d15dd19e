"""An adapter left unmerged: the factors of its low-rank update, layer by layer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch

from edgepeft.adapters.adapter import Adapter
from edgepeft.adapters.attach import attach
from edgepeft.adapters.unmerged import unmerged_of
from edgepeft.errors import InputError
from edgepeft.merging.merge import tuner_layers

Factors = tuple[torch.Tensor, torch.Tensor]
"""A float32 [r, K] and B float32 [N, r], scaling included: the layer adds ``B A x``."""


def low_rank_factors(
    skeleton: Any, adapter: Adapter, names: Collection[str]
) -> Mapping[str, Factors]:
    """Factors of each adapted weight [N, K] by its name, as ``Factors`` says. ``skeleton`` is consumed.

    Weights that are not among ``names`` are merged, so they have none. Raises InputError where an update is not a
    plain product of two matrices.
    """
    from peft.tuners.lora import Linear

    if unmerged_of(adapter, skeleton.config) is not None:
        return {}
    found: dict[str, Factors] = {}
    for name, layer in tuner_layers(attach(skeleton, adapter)).items():
        if f"{name}.weight" not in names:
            continue
        (active,) = layer.active_adapters
        plain = isinstance(layer, Linear) and not layer.use_dora.get(active, False)
        if not plain or layer.lora_variant.get(active) is not None:
            raise InputError(
                f"{adapter.folder}: {adapter.config.get('peft_type')} changes {name} in a way that can't stay "
                "beside the base; only plain LoRA can, so choose a target that merges"
            )
        up = layer.lora_B[active].weight.data * layer.scaling[active]
        found[f"{name}.weight"] = (layer.lora_A[active].weight.data.float(), up.float())
    return found
