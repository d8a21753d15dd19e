"""Channels brought to like sizes before they are rounded, where that changes nothing that the model computes.

What a norm puts out can be divided by a number for each channel, if the columns of every weight that reads it are
multiplied by the same; the division goes into the norm's own weight, so it costs nothing. Likewise between the up
and the down projection of a gated feed-forward layer. Activations whose channels are of like size lose less when
products round them to 8 bits in blocks, and weights lose more the more their columns differ (SmoothQuant, Xiao et
al. 2022, https://arxiv.org/abs/2211.10438; scales for the weights' sake alone: AWQ, Lin et al. 2023,
https://arxiv.org/abs/2306.00978). Of some exponents of the channels' sizes, those with which both roundings
together leave the least error on calibration activations are taken.

Which norm feeds which weights is seen when a layer runs, and what was folded is held against the layer before it:
an architecture that uses a norm's output in another way is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edgepeft.calibration.data import Batch
from edgepeft.calibration.layer_stream import LayerStream
from edgepeft.quantization.algorithms.rtn import ROUNDING
from edgepeft.quantization.divergence import to_eight_bits
from edgepeft.quantization.grids import IntGrid

TOKENS = 512
"""Calibration tokens where nothing but smoothing looks at them."""
SAMPLED_TOKENS = 256
"""Of these so many stand for all when exponents are tried."""
_SAMPLED_ROWS = 256
_PROBE_TOKENS = 16
_SAME = 1e-4
"""How far a folded layer may be off, as a share of what it adds to its input: float32's own error, with room."""
_INPUT_EXPONENTS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_WEIGHT_EXPONENTS = (0.0, 0.25, 0.5)
_WIDEST = 64.0
_FAINTEST = 1e-3
"""Channels fainter than this share of the loudest are taken for as loud as that."""


@dataclass(frozen=True)
class Fold:
    """A place where channels can be rescaled: some rows of a maker's weight, and the weights that read them.

    ``offsets`` are what the maker may add to its weight before it multiplies; a Gemma norm adds one.
    """

    maker: Any
    rows: slice
    offsets: tuple[float, ...]
    readers: Mapping[str, Any]

    def scale(self, scales: torch.Tensor, offset: float) -> list[tuple[Any, torch.Tensor]]:
        """Divide the maker's output by ``scales`` float32 [K] and multiply what reads it; the values before."""
        before = [(module.weight, module.weight.data) for module in self.readers.values()]
        for module in self.readers.values():
            module.weight.data = module.weight.data * scales
        for name, parameter in self.maker.named_parameters(recurse=False):
            before.append((parameter, parameter.data))
            value, added = parameter.data.clone(), offset if name == "weight" else 0.0
            divisor = scales if value.dim() == 1 else scales[:, None]
            value[self.rows] = (value[self.rows] + added) / divisor - added
            parameter.data = value
        return before


class Smoothing:
    """Smooths the layers of a stream in turn, and keeps what changed of what isn't rounded.

    ``folded`` holds norm weights and biases, float32, by checkpoint name.
    """

    def __init__(
        self,
        stream: LayerStream,
        batches: Sequence[Batch],
        grids: Mapping[str, IntGrid],
        *,
        eight_bit_inputs: bool,
    ) -> None:
        """``eight_bit_inputs``: whether products round what they are multiplied with."""
        self.folded: dict[str, torch.Tensor] = {}
        self.places = 0
        self._stream, self._grids, self._eight_bit_inputs = stream, grids, eight_bit_inputs
        ids, mask = batches[0].ids[:1, :_PROBE_TOKENS], batches[0].mask[:1, :_PROBE_TOKENS]
        self._probe = stream.begin(ids, mask)

    def smooth(self, index: int, samples: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Fold scales into a filled layer; those of each weight's columns float32 [K], by the weight's name.

        ``samples`` float32 [T, K] are some inputs of each weight.
        """
        exact, folds = self._look(index)
        found: dict[str, torch.Tensor] = {}
        for fold in folds:
            scales = self.choose(fold, samples)
            if scales is not None and self._fold(index, fold, scales, exact):
                found.update(dict.fromkeys(fold.readers, scales))
        self._probe.hidden = exact
        return found

    def _look(self, index: int) -> tuple[torch.Tensor, list[Fold]]:
        """The layer's output on the probe, and where it can be folded."""
        made: dict[int, Any] = {}
        read: dict[int, dict[str, Any]] = {}
        # A tensor that is kept keeps its identity.
        alive: list[torch.Tensor] = []
        linear = self._stream.linear(index)

        def note(module: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                alive.append(output)
                made[id(output)] = module

        def notice(name: str, module: Any, value: torch.Tensor) -> None:
            alive.append(value)
            read.setdefault(id(value), {})[name] = module

        hooks = [
            module.register_forward_pre_hook(
                lambda module, arguments, name=name: notice(name, module, arguments[0])
            )
            for name, module in linear.items()
        ]
        hooks += [
            module.register_forward_hook(lambda module, _, output: note(module, output))
            for module in self._stream.layers[index].modules()
            if is_norm(module)
        ]
        try:
            exact = self._stream.run(index, self._probe)
        finally:
            for hook in hooks:
                hook.remove()
        folds = [
            Fold(made[key], slice(None), (0.0, 1.0), readers)
            for key, readers in read.items()
            if key in made
        ]
        folds += gated(linear)
        return exact, [fold for fold in folds if self._can(fold)]

    def _can(self, fold: Fold) -> bool:
        """Whether all that would change is rounded or small, and hasn't been folded in another layer."""
        makers = [
            self._stream.name(fold.maker, name)
            for name, parameter in fold.maker.named_parameters(recurse=False)
            if parameter.dim() > 1
        ]
        norm = self._stream.name(fold.maker, "weight")
        return norm not in self.folded and all(
            name in self._grids for name in (*makers, *fold.readers)
        )

    def choose(self, fold: Fold, samples: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """The scales float32 [K] with the least error; None where leaving the channels alone is best.

        ``samples`` float32 [T, K] are some inputs of each weight, by its name.
        """
        sample = samples[next(iter(fold.readers))]
        trial = Trial(
            sample,
            [(module.weight.data, self._grids[name]) for name, module in fold.readers.items()],
            eight_bit_inputs=self._eight_bit_inputs,
        )
        best: torch.Tensor | None = None
        least = trial.error(torch.ones(sample.shape[1]))
        for inputs in _INPUT_EXPONENTS:
            for weights in _WEIGHT_EXPONENTS:
                scales = trial.scales(inputs, weights)
                error = trial.error(scales)
                if error < least:
                    best, least = scales, error
        return best

    def _fold(self, index: int, fold: Fold, scales: torch.Tensor, exact: torch.Tensor) -> bool:
        """Fold, unless that changes what the layer computes; whether it was done."""
        added = (exact - self._probe.hidden).norm()
        for offset in fold.offsets:
            before = fold.scale(scales, offset)
            off = (self._stream.run(index, self._probe) - exact).norm()
            if off <= _SAME * added:
                self.places += 1
                for name, parameter in fold.maker.named_parameters(recurse=False):
                    if parameter.dim() == 1:
                        self.folded[self._stream.name(fold.maker, name)] = parameter.data
                return True
            for parameter, value in before:
                parameter.data = value
        return False


class Trial:
    """What scales would do to the error of some weights' products with sampled inputs float32 [T, K]."""

    def __init__(
        self,
        sample: torch.Tensor,
        weights: Sequence[tuple[torch.Tensor, IntGrid]],
        *,
        eight_bit_inputs: bool,
    ) -> None:
        self._sample, self._eight_bit_inputs = sample, eight_bit_inputs
        self._energy = sample.square().mean(0)
        self._weights: list[tuple[torch.Tensor, float, torch.Tensor, IntGrid]] = []
        total = torch.zeros(sample.shape[1])
        for weight, grid in weights:
            step = max(1, len(weight) // _SAMPLED_ROWS)
            norms = weight.square().sum(0)
            total += norms
            rows = weight[::step]
            self._weights.append((rows, len(rows) / len(weight), norms, grid))
        self._sizes = _sizes(self._energy), _sizes(total)

    def scales(self, inputs: float, weights: float) -> torch.Tensor:
        """The inputs' sizes over the weights', to these powers, float32 [K]; their geometric mean is one."""
        scales = inputs * self._sizes[0] - weights * self._sizes[1]
        return (scales - scales.mean()).exp().clamp(1 / _WIDEST, _WIDEST)

    def error(self, scales: torch.Tensor) -> float:
        """The squared error of the products, summed over outputs, its mean over tokens.

        Both roundings are made, the weights' to nearest; what they do to different inputs counts as independent.
        """
        error = 0.0
        for rows, share, norms, grid in self._weights:
            scaled = rows * scales
            off = ROUNDING(scaled, grid).dequantize().sub_(scaled).div_(scales).square_()
            error += float(off.sum(0) @ self._energy) / share
            if self._eight_bit_inputs:
                seen = self._sample / scales
                noise = to_eight_bits(seen, grid.block_size).sub_(seen).square_().mean(0)
                error += float(noise @ (norms * scales.square()))
        return error


def _sizes(squares: torch.Tensor) -> torch.Tensor:
    """Logarithms of the roots of mean squares float32 [K]."""
    loudest = squares.amax().clamp_min(torch.finfo(torch.float32).tiny)
    return 0.5 * squares.clamp_min(_FAINTEST**2 * loudest).log()


def is_norm(module: Any) -> bool:
    """Whether a module may be one that scales each channel by a weight of its own."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.nn.Parameter) and weight.dim() == 1


_UP = {"down_proj": "up_proj", "w2": "w3"}
"""What families call the projection whose output, gated, a layer's last one reads."""


def gated(linear: Mapping[str, Any]) -> list[Fold]:
    """Folds between the up and down projections of a layer, by the checkpoint names of their weights."""
    folds = []
    for name, down in linear.items():
        last = next((last for last in _UP if name.endswith(f"{last}.weight")), None)
        if last is None:
            continue
        stem = name.removesuffix(f"{last}.weight")
        if (up := linear.get(f"{stem}{_UP[last]}.weight")) is not None:
            folds.append(Fold(up, slice(None), (0.0,), {name: down}))
        elif (both := linear.get(f"{stem}gate_up_proj.weight")) is not None:
            folds.append(Fold(both, slice(down.in_features, None), (0.0,), {name: down}))
    return folds
