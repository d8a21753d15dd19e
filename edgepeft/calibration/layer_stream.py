"""A model's layers, one at a time: what calibration runs through, whatever the model's depth.

The model stays a skeleton on the meta device. Its own forward is run once for each batch with every layer's
forward replaced by a recorder, so that masks, positions and whatever else an architecture hands its layers are
those of its own code; the layers are then filled from a tensor source, used and emptied again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.func import functional_call

from edgepeft.checkpoints.skeleton import (
    final_norm,
    head_and_embedding_names,
    is_decoder,
    is_encoder,
)
from edgepeft.checkpoints.source import TensorSource
from edgepeft.errors import EdgepeftError

_IN_TUPLES = ("mpnet", "deberta", "deberta-v2")
"""Kinds of model whose layers give their output in a tuple."""


@dataclass
class LayerInputs:
    """What the layers of a model see of one batch.

    ``hidden`` float32 [B, T, H] enters the next layer; ``calls`` holds each layer's other arguments.
    """

    hidden: torch.Tensor
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]


class LayerStream:
    """A decoder's or an encoder's layers, filled from ``weights`` in turn."""

    def __init__(self, skeleton: Any, weights: TensorSource) -> None:
        """``skeleton`` is the model without weights; ``weights`` has them, under their checkpoint names."""
        self.model = skeleton
        self._weights = weights
        self._is_encoder = is_encoder(self.model.config)
        self._body = self.model.base_model if self._is_encoder else self.model.get_decoder()
        stacks = (getattr(self._body, name, None) for name in ("encoder", "transformer"))
        stack = next((found for found in stacks if found is not None), self._body)
        self.layers = stack.layer if hasattr(stack, "layer") else stack.layers
        # What the body runs after its layers is left out, all else beside them needs weights.
        if is_decoder(self.model):
            self._after = [final_norm(self._body)]
        else:
            found = [getattr(self._body, name, None) for name in ("final_norm", "pooler")]
            self._after = [module for module in found if module is not None]
        inner = {id(m) for part in (*self.layers, *self._after) for m in part.modules()}
        self._beside = [module for module in self._body.modules() if id(module) not in inner]
        self._names = {id(module): name for name, module in self.model.named_modules()}

    def __len__(self) -> int:
        return len(self.layers)

    def linear(self, index: int) -> dict[str, Any]:
        """A layer's linear modules by the checkpoint names of their weights."""
        return {
            f"{self._names[id(module)]}.weight": module
            for module in self.layers[index].modules()
            if isinstance(module, torch.nn.Linear)
        }

    def name(self, module: Any, parameter: str) -> str:
        """The checkpoint name of a module's parameter."""
        return f"{self._names[id(module)]}.{parameter}"

    def begin(self, ids: torch.Tensor, mask: torch.Tensor) -> LayerInputs:
        """Embed token ids int64 [B, T], padded on the right; ``mask`` bool [B, T]: what is no padding.

        A decoder's tokens don't see what comes after them, so it needs no mask. Raises EdgepeftError for a model
        that does more between its layers than hand on what they give.
        """
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        seen: list[torch.Tensor] = []
        in_tuples = self.model.config.model_type in _IN_TUPLES

        def recorder(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            seen.append(hidden)
            calls.append((args, kwargs))
            return (hidden, None) if in_tuples else hidden

        how: dict[str, Any] = {"use_cache": False} if is_decoder(self.model) else {}
        if self._is_encoder:
            how["attention_mask"] = mask.long()
        with self._filled(self._beside), self._recording(recorder), torch.no_grad():
            self._body(input_ids=ids, **how)
        if len(calls) != len(self.layers) or any(hidden is not seen[0] for hidden in seen):
            raise EdgepeftError(
                f"{type(self.model).__name__} does not run its layers in order; it can't be calibrated"
            )
        return LayerInputs(seen[0], calls)

    @contextlib.contextmanager
    def layer(self, index: int) -> Iterator[None]:
        """One layer with its weights in float32; they are gone when the context ends."""
        with self._filled(self.layers[index].modules()):
            yield

    def run(
        self, index: int, inputs: LayerInputs, weights: Mapping[str, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Output float32 [B, T, H] of a filled layer over a batch's hidden states.

        ``weights``, by checkpoint name, take the place of the layer's own; gradients reach them.
        """
        args, kwargs = inputs.calls[index]
        layer = self.layers[index]
        stem = f"{self._names[id(layer)]}."
        replaced = {name.removeprefix(stem): value for name, value in (weights or {}).items()}
        output = functional_call(layer, replaced, (inputs.hidden, *args), kwargs)
        return output[0] if isinstance(output, tuple) else output

    @contextlib.contextmanager
    def norm(self) -> Iterator[Any]:
        """What lies between the last layer and the head, with its weights."""
        norm = final_norm(self._body)
        with self._filled(norm.modules()):
            yield norm

    @property
    def head_weight_name(self) -> str:
        """The checkpoint name of the head's weight: the embedding's where the two are tied."""
        return head_and_embedding_names(self.model)[0]

    def head_bias(self) -> torch.Tensor | None:
        """What the head adds to its product, float32 [V]; None for nothing."""
        head = self.model.get_output_embeddings()
        if getattr(head, "bias", None) is None:
            return None
        return self._weights.load(self.name(head, "bias")).to(torch.float32)

    @property
    def has_head(self) -> bool:
        """Whether a head reads the last layer's output; an encoder has none over its vocabulary."""
        return not self._is_encoder

    @contextlib.contextmanager
    def _filled(self, owners: Iterable[Any]) -> Iterator[None]:
        """Modules with the weights that are directly theirs."""
        vacant: list[tuple[Any, str, Any]] = []
        try:
            for owner in owners:
                for name, parameter in list(owner.named_parameters(recurse=False)):
                    value = self._weights.load(self.name(owner, name)).to(torch.float32)
                    vacant.append((owner, name, parameter))
                    setattr(owner, name, torch.nn.Parameter(value, requires_grad=False))
            yield
        finally:
            for owner, name, parameter in vacant:
                setattr(owner, name, parameter)

    @contextlib.contextmanager
    def _recording(self, recorder: Any) -> Iterator[None]:
        """Every layer's forward replaced, and what comes after them (the final norm, a pooler) left out."""
        replaced = [*self.layers, *self._after]
        for module in self.layers:
            module.forward = recorder
        for module in self._after:
            module.forward = lambda hidden: hidden
        try:
            yield
        finally:
            for module in replaced:
                del module.forward
