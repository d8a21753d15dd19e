"""The merge: base weight plus adapter, one module at a time, in float32.

The arithmetic is PEFT's own layer (``merge`` of a tuner layer on a plain float32 Linear), so every method that
PEFT can merge is merged here as it defines it; ours is that the base weight is the right one and that only one
is ever in memory. Nothing is rounded back onto the training grid.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from edgepeft.checkpoints.source import ComputedSource, TensorSource, TensorSpec
from edgepeft.errors import EdgepeftError, InputError
from edgepeft.merging.adapter import Adapter, attach

_PREFIX = "base_model.model."


def merged(base: TensorSource, skeleton: Any, adapter: Adapter) -> TensorSource:
    """The base with the adapter merged in: touched weights as float32, the rest as stored.

    ``skeleton`` is the model's meta skeleton and is consumed. Raises InputError where the adapter does not fit,
    EdgepeftError where a merged weight is not finite.
    """
    layers = tuner_layers(attach(skeleton, adapter))
    unknown = sorted(set(layers) - set(base.specs))
    if unknown:
        raise InputError(f"{adapter.folder}: adapts {unknown[0]}, which the base does not store")
    specs = {
        name: TensorSpec(spec.shape, torch.float32) if name in layers else spec
        for name, spec in base.specs.items()
    }

    def compute(name: str) -> torch.Tensor:
        tensor = base.load(name)
        return _merge_layer(name, layers[name], tensor) if name in layers else tensor

    return ComputedSource(specs, compute)


def tuner_layers(wrapped: Any) -> dict[str, Any]:
    """PEFT's layers of an adapted model by the name of the weight they change. Raises InputError."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = {
        f"{name.removeprefix(_PREFIX)}.weight": module
        for name, module in wrapped.named_modules()
        if isinstance(module, BaseTunerLayer)
    }
    if not layers:
        raise InputError("the adapter changes no layer of this model; check its target_modules")
    for name, layer in layers.items():
        if not isinstance(layer.get_base_layer(), nn.Linear):
            kind = type(layer.get_base_layer()).__name__
            raise InputError(
                f"the adapter changes {name}, a {kind}; only linear layers can be merged"
            )
    return layers


def _merge_layer(name: str, layer: Any, weight: torch.Tensor) -> torch.Tensor:
    """Merge one layer on a float32 copy of ``weight`` [out, in]; the layer is left as it was found."""
    linear = layer.get_base_layer()
    vacant = linear.weight
    linear.weight = nn.Parameter(weight.to(torch.float32, copy=True), requires_grad=False)
    try:
        with torch.no_grad():
            layer.merge(safe_merge=False)
        result = layer.get_base_layer().weight.data
    finally:
        layer.merged_adapters.clear()
        linear.weight = vacant
    if not torch.isfinite(result).all():
        raise EdgepeftError(
            f"{name}: not finite after the merge; the adapter or the base is damaged"
        )
    return result
