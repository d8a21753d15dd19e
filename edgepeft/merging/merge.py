"""The merge: base weight plus adapter, one module at a time, in float32.

The arithmetic is PEFT's own layer (``merge`` of a tuner layer on a plain float32 module), so every method that
PEFT can merge is merged here as it defines it; ours is that the base weight is the right one and that only one
is ever in memory. Nothing is rounded back onto the training grid.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgepeft.adapters.adapter import Adapter
from edgepeft.adapters.attach import attach
from edgepeft.adapters.keys import PREFIX
from edgepeft.checkpoints.source import ComputedSource, TensorSource, TensorSpec
from edgepeft.errors import EdgepeftError, InputError, one_line
from edgepeft.utils.finite import all_finite

_TOKENS = ".token_adapter"


def merged(base: TensorSource, skeleton: Any, adapter: Adapter) -> TensorSource:
    """The base with the adapter merged in: touched weights as float32, the rest as stored.

    ``skeleton`` is the model's meta skeleton and is consumed. Raises InputError where the adapter does not fit,
    EdgepeftError where a merged weight is not finite.
    """
    units = merge_units(attach(skeleton, adapter), base.specs, adapter)
    specs = {
        name: TensorSpec(spec.shape, torch.float32) if name in units else spec
        for name, spec in base.specs.items()
    }
    vectors: dict[str, torch.Tensor] = {}

    def compute(name: str) -> torch.Tensor:
        if name not in units:
            return base.load(name)
        if name in vectors:
            return vectors.pop(name)
        results = units[name].merge(base)
        # A bias comes out of the same merge as its weight; kept until asked for, it is not worked out twice.
        vectors.update({k: v for k, v in results.items() if k != name and v.dim() == 1})
        return results[name]

    return ComputedSource(specs, compute)


def tuner_layers(wrapped: Any) -> dict[str, Any]:
    """PEFT's layers of an adapted model by the name of the module they adapt."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    found = {}
    for name, module in wrapped.named_modules():
        if isinstance(module, BaseTunerLayer):
            found[name.removeprefix(PREFIX).removesuffix(_TOKENS)] = module
    return found


@dataclass(frozen=True)
class MergeUnit:
    """One adapted module: the names of its stored parameters, and how they change together."""

    name: str
    layer: Any
    parameters: Mapping[str, str]
    replaced: bool = False

    def merge(self, base: TensorSource) -> dict[str, torch.Tensor]:
        """Merged parameters by checkpoint name: float32, in the shapes that they have in ``base``.

        Raises EdgepeftError where one is not finite.
        """
        if self.replaced:
            results = {
                name: self.layer.get_parameter(own).data.to(torch.float32)
                for own, name in self.parameters.items()
            }
        else:
            results = self._merged(base)
        for name, result in results.items():
            if not all_finite(result):
                raise EdgepeftError(
                    f"{name}: not finite after the merge; the adapter or the base is damaged"
                )
        return results

    def _merged(self, base: TensorSource) -> dict[str, torch.Tensor]:
        # The copy holds the adapter's own tensors alone, for its base is vacant; the layer stays as it was.
        layer = copy.deepcopy(self.layer)
        inner = layer.get_base_layer()
        for own, name in self.parameters.items():
            value = base.load(name).to(torch.float32, copy=True)
            setattr(inner, own, nn.Parameter(value, requires_grad=False))
        try:
            with torch.no_grad():
                layer.merge(safe_merge=False)
        except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
            raise EdgepeftError(f"{self.name}: PEFT can't merge it: {one_line(error)}") from None
        inner = layer.get_base_layer()
        results = {name: getattr(inner, own).data for own, name in self.parameters.items()}
        for name, result in results.items():
            if result.is_meta:
                raise EdgepeftError(
                    f"{name}: PEFT works its change out of the base's weights when it loads an adapter; such "
                    "methods can't be merged one tensor at a time yet"
                )
        return results


def merge_units(
    wrapped: Any, stored: Mapping[str, TensorSpec], adapter: Adapter
) -> dict[str, MergeUnit]:
    """What the adapter changes, by the name of every checkpoint tensor concerned. Raises InputError."""
    from peft.tuners.lora import Embedding
    from peft.tuners.trainable_tokens import TrainableTokensLayer as TokenLayer
    from peft.utils.other import ModulesToSaveWrapper

    model = wrapped.get_base_model()
    follows = model.get_output_embeddings() if model.config.tie_word_embeddings else None
    units: dict[str, MergeUnit] = {}
    seen: set[int] = set()
    for name, layer in tuner_layers(wrapped).items():
        if getattr(layer, "tied_adapter", None) is not None or layer is follows:
            # The head of a tied model follows its embedding, which is a unit of its own.
            continue
        inner = layer.get_base_layer()
        if isinstance(inner, nn.Embedding) and not isinstance(layer, (Embedding, TokenLayer)):
            raise InputError(
                f"the adapter changes {name}.weight, a {type(inner).__name__}; of an embedding only LoRA, single "
                "rows and the whole of it can be merged"
            )
        _refuse_leftovers(name, layer)
        names = {own: f"{name}.{own}" for own, _ in inner.named_parameters(recurse=False)}
        _add(units, MergeUnit(name, layer, names), stored, adapter)
    for name, module in wrapped.named_modules():
        if isinstance(module, ModulesToSaveWrapper):
            path = name.removeprefix(PREFIX)
            (active,) = module.active_adapters
            saved = module.modules_to_save[active]
            names = {own: f"{path}.{own}" for own, _ in saved.named_parameters()}
            ids = {id(parameter) for parameter in saved.parameters()}
            if ids <= seen:
                # The head of a tied model again, whose one tensor the embedding has changed.
                continue
            seen |= ids
            _add(units, MergeUnit(path, saved, names, replaced=True), stored, adapter)
    if not units:
        raise InputError("the adapter changes no layer of this model; check its target_modules")
    return units


def _add(
    units: dict[str, MergeUnit],
    unit: MergeUnit,
    stored: Mapping[str, TensorSpec],
    adapter: Adapter,
) -> None:
    absent = sorted(set(unit.parameters.values()) - set(stored))
    if absent:
        raise InputError(f"{adapter.folder}: adapts {absent[0]}, which the base does not store")
    units.update(dict.fromkeys(unit.parameters.values(), unit))


def _refuse_leftovers(name: str, layer: Any) -> None:
    """A part of the adapter that is still without a value would be merged as nothing, without a word."""
    base = {id(tensor) for tensor in layer.get_base_layer().parameters()}
    # What trainable tokens replace is remembered only to undo a merge.
    parts = [*layer.named_parameters(), *layer.named_buffers()]
    for part, tensor in parts:
        if tensor.is_meta and id(tensor) not in base and "trainable_tokens_original" not in part:
            raise EdgepeftError(
                f"{name}: PEFT works out {part.split('.')[0]} from the base's weights when it loads an adapter; "
                "such methods can't be merged one tensor at a time yet"
            )
