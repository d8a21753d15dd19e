"""How much an error in each weight would cost, in nats of KL, measured on calibration data.

Near the model, KL(model || rounded) per token is half the Fisher form of the error: for a weight W [N, K] with
inputs x and gradients g of the log-likelihood of tokens drawn from the model itself, taken as independent,
½ Σ_n E[g_n²] Σ_k E[x_k²] ΔW_nk² (the diagonal of the Kronecker factors of Martens and Grosse 2015,
https://arxiv.org/abs/1503.05671). Rounded inputs are an error of the same kind, with x and W in each other's
place. Layers are run forward and back one at a time, so memory is that of one layer and of the activations
between layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from edgepeft.calibration.data import Batch
from edgepeft.calibration.layer_stream import LayerInputs, LayerStream
from edgepeft.checkpoints.outer_head import OuterHead
from edgepeft.checkpoints.source import TensorSource

BLOCK_SIZES = (16, 32, 64, 128)


@dataclass
class Sensitivity:
    """What a weight [N, K] is multiplied with and what its products matter, per judged token.

    ``inputs`` float32 [K]: E[x²]. ``outputs`` float32 [N]: Σ g² over all positions, by the number of judged ones.
    ``noise`` float32 [K] by block size: the mean square error of inputs rounded to 8 bits in such blocks.
    """

    inputs: torch.Tensor
    outputs: torch.Tensor
    noise: dict[int, torch.Tensor]

    def rows(self, start: int, end: int) -> Sensitivity:
        """That of some of the weight's rows."""
        return Sensitivity(self.inputs, self.outputs[start:end], self.noise)

    def cost(self, error: torch.Tensor) -> float:
        """What an error float32 [N, K] of the weight would cost, nats per token."""
        return 0.5 * float(self.outputs @ (error.square() @ self.inputs))

    def input_cost(self, weight: torch.Tensor, block_size: int) -> float:
        """What 8-bit inputs of a weight float32 [N, K] would cost, nats per token."""
        return 0.5 * float(self.outputs @ (weight.square() @ self.noise[block_size]))


@dataclass
class Unit:
    """Weights that share an input and must share a grid, by name."""

    names: list[str]
    sensitivities: dict[str, Sensitivity]


def measure_sensitivities(
    stream: LayerStream,
    batches: Sequence[Batch],
    weights: TensorSource,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Unit]:
    """Units of every linear weight of the layers, in their order, and last the head.

    ``seed`` is that of the tokens drawn. Costs are means over the batches' judged tokens.
    """
    layers = len(stream)
    inputs = [stream.begin(batch.ids, batch.mask) for batch in batches]
    kept: list[list[torch.Tensor]] = []
    with torch.no_grad():
        for index in range(layers):
            kept.append([one.hidden for one in inputs])
            with stream.layer(index):
                for one in inputs:
                    one.hidden = stream.run(index, one)
            progress(index + 1, 2 * layers)
    head, gradients = _through_head(stream, batches, inputs, weights, seed)
    units: list[Unit] = []
    for index in reversed(range(layers)):
        for one, hidden in zip(inputs, kept.pop(), strict=True):
            one.hidden = hidden
        with stream.layer(index):
            units = [
                *_through_layer(stream, index, batches, inputs, gradients),
                *units,
            ]
        progress(2 * layers - index, 2 * layers)
    return [*units, head]


def _through_head(
    stream: LayerStream,
    batches: Sequence[Batch],
    inputs: Sequence[LayerInputs],
    weights: TensorSource,
    seed: int,
) -> tuple[Unit, list[torch.Tensor]]:
    """The head's unit, and the gradient at the last layer's output of each batch."""
    generator = torch.Generator().manual_seed(seed)
    name = stream.head_weight_name
    weight = weights.load(name).to(torch.float32)
    sums, judged = _Sums(weight), 0
    outer = OuterHead.of(stream.model.config, stream.head_bias())
    gradients = []
    with stream.norm() as norm:
        for batch, one in zip(batches, inputs, strict=True):
            hidden = one.hidden.detach().requires_grad_(True)
            with torch.enable_grad():
                normed = norm(hidden)
            back = torch.zeros_like(normed)
            for row in range(len(batch.ids)):
                scored = batch.scored[row]
                states = normed[row][scored].detach()
                raw = (states @ weight.T).requires_grad_(True)
                with torch.enable_grad():
                    logits = outer(raw)
                # What the model does to its head's output, it does to each on its own.
                (slope,) = torch.autograd.grad(logits.sum(), raw)
                chances = torch.softmax(logits.detach(), dim=-1)
                drawn = torch.multinomial(chances, 1, generator=generator)
                sums.inputs(states)
                # The variance of the softmax's gradient over drawn tokens is known in closed form.
                sums.outputs((chances * (1 - chances)).sqrt_().mul_(slope))
                judged += len(states)
                chances.scatter_add_(1, drawn, torch.full(drawn.shape, -1.0))
                back[row, scored] = chances.mul_(slope) @ weight
            (gradient,) = torch.autograd.grad(normed, hidden, back)
            gradients.append(gradient)
    return Unit([name], {name: sums.means(judged)}), gradients


def _through_layer(
    stream: LayerStream,
    index: int,
    batches: Sequence[Batch],
    inputs: Sequence[LayerInputs],
    gradients: list[torch.Tensor],
) -> list[Unit]:
    """The layer's units; ``gradients`` become those at the layer's input."""
    linear = stream.linear(index)
    sums = {name: _Sums(module.weight) for name, module in linear.items()}
    groups: dict[str, list[str]] = {}
    mask = torch.empty(0)
    first: dict[int, str] = {}
    alive: list[torch.Tensor] = []

    def note(name: str, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        (value,) = arguments
        alive.append(value)
        leader = first.setdefault(id(value), name)
        members = groups.setdefault(leader, [])
        if name not in members:
            members.append(name)
        sums[name].inputs(value.detach()[mask])
        output.register_hook(lambda gradient: add(name, gradient))

    def add(name: str, gradient: torch.Tensor) -> None:
        sums[name].outputs(gradient[mask])

    hooks = [
        module.register_forward_hook(
            lambda module, arguments, output, name=name: note(name, arguments, output)
        )
        for name, module in linear.items()
    ]
    try:
        for position, (batch, one) in enumerate(zip(batches, inputs, strict=True)):
            mask = batch.mask
            first.clear()
            alive.clear()
            hidden = one.hidden.detach().requires_grad_(True)
            with torch.enable_grad():
                output = stream.run(index, LayerInputs(hidden, one.calls))
            (gradients[position],) = torch.autograd.grad(output, hidden, gradients[position])
    finally:
        for hook in hooks:
            hook.remove()
    judged = sum(int(batch.scored.sum()) for batch in batches)
    return [
        Unit(names, {name: sums[name].means(judged) for name in names}) for names in groups.values()
    ]


class _Sums:
    """Running sums over tokens of what a Sensitivity holds, for a weight [N, K]."""

    def __init__(self, weight: torch.Tensor) -> None:
        rows, width = weight.shape
        self._tokens = 0
        self._inputs = torch.zeros(width)
        self._outputs = torch.zeros(rows)
        self._noise = {size: torch.zeros(width) for size in BLOCK_SIZES}

    def inputs(self, values: torch.Tensor) -> None:
        """Take in inputs float32 [T, K]."""
        self._tokens += len(values)
        self._inputs += values.square().sum(0)
        width = values.shape[1]
        for size, sums in self._noise.items():
            blocks = torch.nn.functional.pad(values, (0, -width % size)).unflatten(-1, (-1, size))
            # An error spread evenly over a step has a twelfth of the step's square as its mean square.
            steps = (blocks.abs().amax(-1) / 127).square().sum(0) / 12
            sums += steps.repeat_interleave(size)[:width]

    def outputs(self, gradients: torch.Tensor) -> None:
        """Take in gradients float32 [T, N] at the outputs."""
        self._outputs += gradients.square().sum(0)

    def means(self, judged: int) -> Sensitivity:
        """Means over the tokens seen and the tokens judged."""
        seen, judged = max(1, self._tokens), max(1, judged)
        noise = {size: sums / seen for size, sums in self._noise.items()}
        return Sensitivity(self._inputs / seen, self._outputs / judged, noise)
