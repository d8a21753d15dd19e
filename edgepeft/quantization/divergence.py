"""How far a rounded model is from the one it was, measured before it is exported.

Both run in float32 through the same skeleton, a layer at a time, over calibration data that rounding hasn't seen.
Products on targets that round their inputs to 8 bits (accuracy level 4 of MatMulNBits) do so here, in the blocks
of the weight's grid and to nearest, as that operator's CPU kernels do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from edgepeft.calibration.data import Batch
from edgepeft.calibration.layer_stream import LayerStream
from edgepeft.checkpoints.outer_head import OuterHead
from edgepeft.checkpoints.source import ComputedSource, TensorSource, TensorSpec
from edgepeft.metrics.generation import Comparison
from edgepeft.quantization.grids import IntGrid, unpack_weight
from edgepeft.quantization.packed_weights import QuantizedWeights

_TOKENS_AT_ONCE = 256


class Judge:
    """The model before rounding on held-out batches, to compare any rounding of it with."""

    def __init__(
        self,
        skeleton: Any,
        weights: TensorSource,
        batches: Mapping[str, Sequence[Batch]],
        *,
        eight_bit_inputs: bool,
    ) -> None:
        """``batches`` are by kind of data; see ``choosing.by_kind``."""
        self._skeleton, self._weights, self._batches = skeleton, weights, batches
        self._eight_bit_inputs = eight_bit_inputs
        stream = LayerStream(skeleton, weights)
        self._outer = OuterHead.of(skeleton.config, stream.head_bias())
        self._head = stream.head_weight_name
        self._states = {kind: final_states(stream, part, {}) for kind, part in batches.items()}

    def divergence(self, rounded: QuantizedWeights) -> tuple[float, ...]:
        """KL(model || rounded) in nats per judged token, for each kind of data."""
        grids = {name: rounded.grid(name) for name in rounded.plan.weights}
        coarse = {
            name: grid
            for name, grid in grids.items()
            if grid is not None and self._eight_bit_inputs
        }
        source = rounded_source(rounded, self._weights)
        stream = LayerStream(self._skeleton, source)
        head = self._weights.load(self._head).to(torch.float32)
        rounded_head = source.load(self._head)
        result = []
        for kind, part in self._batches.items():
            comparison = Comparison()
            found = final_states(stream, part, coarse)
            for before, after in zip(self._states[kind], found, strict=True):
                if self._head in coarse:
                    after = to_eight_bits(after, coarse[self._head].block_size)
                for start in range(0, len(before), _TOKENS_AT_ONCE):
                    rows = slice(start, start + _TOKENS_AT_ONCE)
                    logits = self._outer(before[rows] @ head.T)
                    others = self._outer(after[rows] @ rounded_head.T)
                    comparison.add(logits, others, torch.zeros(logits.shape[0], dtype=torch.int64))
            result.append(comparison.kl)
        return tuple(result)


def rounded_source(rounded: QuantizedWeights, weights: TensorSource) -> TensorSource:
    """The weights as a quantize stage left them, float32; what it left alone comes from ``weights``."""
    half = set(rounded.plan.half)
    weights = rounded.over(weights)

    def compute(name: str) -> torch.Tensor:
        grid = rounded.grid(name)
        if grid is not None:
            width = rounded.plan.weights[name].shape[1]
            return unpack_weight(grid, width, rounded.parts(name)).dequantize()
        value = weights.load(name).to(torch.float32)
        return value.half().float() if name in half else value

    specs = {name: TensorSpec(spec.shape, torch.float32) for name, spec in weights.specs.items()}
    return ComputedSource(specs, compute)


def final_states(
    stream: LayerStream, batches: Sequence[Batch], coarse: Mapping[str, IntGrid]
) -> list[torch.Tensor]:
    """What the head reads at the judged positions of each batch, float32 [T, H].

    The inputs of the weights in ``coarse`` are rounded to 8 bits in the blocks of their grids.
    """
    inputs = [stream.begin(batch.ids, batch.mask) for batch in batches]
    for index in range(len(stream)):
        with (
            torch.no_grad(),
            stream.layer(index),
            _coarse_inputs(stream.linear(index), coarse),
        ):
            for one in inputs:
                one.hidden = stream.run(index, one)
    with torch.no_grad(), stream.norm() as norm:
        return [norm(one.hidden)[batch.scored] for batch, one in zip(batches, inputs, strict=True)]


@contextlib.contextmanager
def _coarse_inputs(linear: Mapping[str, Any], coarse: Mapping[str, IntGrid]) -> Iterator[None]:
    hooks = [
        module.register_forward_pre_hook(
            lambda _, arguments, size=coarse[name].block_size: (to_eight_bits(arguments[0], size),)
        )
        for name, module in linear.items()
        if name in coarse
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def to_eight_bits(values: torch.Tensor, block_size: int) -> torch.Tensor:
    """Float32 [..., K] rounded to multiples of their block's largest size over 127."""
    width = values.shape[-1]
    blocks = torch.nn.functional.pad(values, (0, -width % block_size)).unflatten(
        -1, (-1, block_size)
    )
    steps = blocks.abs().amax(-1, keepdim=True) / 127
    steps = torch.where(steps == 0, torch.ones_like(steps), steps)
    return (blocks.div(steps).round_() * steps).flatten(-2)[..., :width]
