"""How much an error in each weight would cost, in nats of KL, measured on calibration data.

Near the model, KL(model || rounded) per token is half the Fisher form of the error: for a weight W [N, K] with
inputs x and gradients g of the log-likelihood of tokens drawn from the model itself, taken as independent,
½ Σ_n E[g_n²] Σ_k E[x_k²] ΔW_nk² (the diagonal of the Kronecker factors of Martens and Grosse 2015,
https://arxiv.org/abs/1503.05671). Layers are run forward and back one at a time, so memory is that of one layer
and of the activations between layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from edgepeft.checkpoints.layers import LayerInputs, LayerStream
from edgepeft.checkpoints.source import TensorSource
from edgepeft.quantization.calibration import Batch


@dataclass
class Sensitivity:
    """E[x²] float32 [K] of a weight's inputs and E[g²] float32 [N] of its outputs' gradients."""

    inputs: torch.Tensor
    outputs: torch.Tensor

    def rows(self, start: int, end: int) -> Sensitivity:
        """That of some of the weight's rows."""
        return Sensitivity(self.inputs, self.outputs[start:end])

    def cost(self, error: torch.Tensor) -> float:
        """What an error float32 [N, K] would cost, nats per token."""
        return 0.5 * float(self.outputs @ (error.square() @ self.inputs))


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
    """Units of every linear weight of the layers, in their order, and last the head."""
    layers, tokens = len(stream), sum(batch.tokens for batch in batches)
    inputs = [stream.begin(batch.ids) for batch in batches]
    kept: list[list[torch.Tensor]] = []
    with torch.no_grad():
        for index in range(layers):
            kept.append([one.hidden for one in inputs])
            with stream.layer(index):
                for one in inputs:
                    one.hidden = stream.run(index, one)
            progress(index + 1, 2 * layers)
    head, gradients = _through_head(stream, batches, inputs, weights, seed, tokens)
    units: list[Unit] = []
    for index in reversed(range(layers)):
        for one, hidden in zip(inputs, kept.pop(), strict=True):
            one.hidden = hidden
        with stream.layer(index):
            units = [
                *_through_layer(stream, index, batches, inputs, gradients, tokens),
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
    tokens: int,
) -> tuple[Unit, list[torch.Tensor]]:
    """The head's unit, and the gradient at the last layer's output of each batch."""
    generator = torch.Generator().manual_seed(seed)
    name = stream.head_weight_name
    weight = weights.load(name).to(torch.float32)
    energy, spread = torch.zeros(weight.shape[1]), torch.zeros(weight.shape[0])
    gradients = []
    with stream.norm() as norm:
        for batch, one in zip(batches, inputs, strict=True):
            hidden = one.hidden.detach().requires_grad_(True)
            with torch.enable_grad():
                normed = norm(hidden)
            back = torch.zeros_like(normed)
            for row in range(len(batch.ids)):
                scored = batch.mask[row]
                with torch.no_grad():
                    states = normed[row][scored]
                    chances = torch.softmax(states @ weight.T, dim=-1)
                    drawn = torch.multinomial(chances, 1, generator=generator)
                    energy += states.square().sum(0)
                    # The variance of the softmax's gradient over drawn tokens is known in closed form.
                    spread += (chances * (1 - chances)).sum(0)
                    chances.scatter_add_(1, drawn, torch.full_like(drawn, -1, dtype=chances.dtype))
                    back[row, scored] = chances @ weight
            (gradient,) = torch.autograd.grad(normed, hidden, back)
            gradients.append(gradient)
    found = Sensitivity(energy / tokens, spread / tokens)
    return Unit([name], {name: found}), gradients


def _through_layer(
    stream: LayerStream,
    index: int,
    batches: Sequence[Batch],
    inputs: Sequence[LayerInputs],
    gradients: list[torch.Tensor],
    tokens: int,
) -> list[Unit]:
    """The layer's units; ``gradients`` become those at the layer's input."""
    linear = stream.linear(index)
    found = {
        name: Sensitivity(torch.zeros(m.weight.shape[1]), torch.zeros(m.weight.shape[0]))
        for name, m in linear.items()
    }
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
        found[name].inputs += value.detach()[mask].square().sum(0)
        output.register_hook(lambda gradient: add(name, gradient))

    def add(name: str, gradient: torch.Tensor) -> None:
        found[name].outputs += gradient[mask].square().sum(0)

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
    for sensitivity in found.values():
        sensitivity.inputs /= tokens
        sensitivity.outputs /= tokens
    return [Unit(names, {name: found[name] for name in names}) for names in groups.values()]
