"""Block scales learned through the grid: what a layer lost by rounding, made up for as far as scales can.

The codes stay as they were rounded; each block's scale is moved by gradient descent until the rounded layers so
far put out what the exact ones do (reconstruction block by block: BRECQ, Li et al. 2021,
https://arxiv.org/abs/2102.05426; of language models' layers through the quantizer: OmniQuant, Shao et al. 2023,
https://arxiv.org/abs/2308.13137). One layer at a time: memory is that of one layer, its gradients and the
activations at its boundaries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from edgepeft.calibration.data import Batch
from edgepeft.calibration.layer_stream import LayerInputs, LayerStream
from edgepeft.quantization.grids import BlockCodes, IntGrid, settle, unpack_weight
from edgepeft.quantization.packed_weights import Parts

ROWS_AT_ONCE = 2
"""Sequences of one step."""
_RATE = 1e-3
"""Adam's first step, as a share of each scale; it falls to nothing along a half cosine."""


class Learner:
    """Learns the scales of a stream's layers in turn, each towards the exact model's own hidden states."""

    def __init__(self, stream: LayerStream, batches: Sequence[Batch], steps: int) -> None:
        """``steps`` are taken for each layer, over the batches in their order again and again."""
        self._stream, self._batches, self._steps = stream, batches, steps
        self._inputs = [stream.begin(batch.ids, batch.mask) for batch in batches]

    def watch(self, index: int) -> None:
        """Take the exact model through a filled layer that isn't rounded yet."""
        for one in self._inputs:
            one.hidden = self._stream.run(index, one)

    def learn(
        self,
        index: int,
        parts: Parts,
        modules: Mapping[str, Any],
        grids: Mapping[str, IntGrid],
        inputs: Sequence[LayerInputs],
    ) -> None:
        """Replace the scales of a layer's rounded weights in ``parts`` and in the modules by learned ones.

        ``inputs`` are what the rounded layers before it yield.
        """
        rounded = {
            name: unpack_weight(grids[name], modules[name].weight.shape[1], value)
            for name, value in parts.items()
        }
        changes = {name: torch.zeros_like(one.scales) for name, one in rounded.items()}
        with torch.enable_grad():
            for change in changes.values():
                change.requires_grad_(True)
            optimizer = torch.optim.Adam(changes.values(), lr=_RATE)
            falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self._steps)
            for step in range(self._steps):
                at = step % len(self._batches)
                weights = {name: _weight(one, changes[name]) for name, one in rounded.items()}
                got = self._stream.run(index, inputs[at], weights)
                loss = distance(got, self._inputs[at].hidden)[self._batches[at].mask].mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                falling.step()
        for name, one in rounded.items():
            parts[name]["scales"] = settle(one.scales * (1 + changes[name].detach()))
            unpacked = unpack_weight(grids[name], one.width, parts[name])
            modules[name].weight.data = unpacked.dequantize()


def distance(got: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Squared distance float32 [B, T] of hidden states [B, T, H], as a share of what was wanted, squared.

    What reads hidden states normalizes each token, so each counts for its own size.
    """
    size = wanted.square().sum(-1).clamp_min(torch.finfo(torch.float32).tiny)
    return (got - wanted).square().sum(-1) / size


def _weight(rounded: BlockCodes, change: torch.Tensor) -> torch.Tensor:
    """The weight [N, K] that codes stand for with their scales changed by a share of each."""
    scaled = BlockCodes(
        rounded.grid,
        rounded.width,
        rounded.codes,
        rounded.scales * (1 + change),
        rounded.zero_points,
    )
    return scaled.dequantize()
