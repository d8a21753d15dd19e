"""What is remembered of the inputs of a weight: their second moments, and what GPTQ makes of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Self

import torch

from edgepeft.errors import EdgepeftError
from edgepeft.utils.finite import all_finite

DAMPING = 0.01
"""Share of the mean diagonal that is added to H before it is inverted, as in the GPTQ paper."""


class InputStatistics:
    """H = Σ x xᵀ over calibration inputs x float32 [K]; ``tokens`` counts them.

    ``moments``: whether H is wanted; ``sample_every``: one input of so many is kept as it is, none at 0.
    """

    def __init__(self, width: int, *, moments: bool = True, sample_every: int = 0) -> None:
        self.hessian = torch.zeros(width, width) if moments else torch.empty(0, 0)
        self.tokens = 0
        self._every = sample_every
        self._kept: list[torch.Tensor] = []

    def add(self, inputs: torch.Tensor) -> None:
        """Take in inputs float32 [T, K]."""
        if len(self.hessian):
            self.hessian.addmm_(inputs.T, inputs)
        if self._every:
            self._kept.append(inputs[:: self._every].clone())
        self.tokens += inputs.shape[0]

    @property
    def sample(self) -> torch.Tensor:
        """The inputs that were kept, float32 [T, K]."""
        return torch.cat(self._kept)

    def divided(self, scales: torch.Tensor) -> InputStatistics:
        """Those of the inputs divided by scales float32 [K]; without a sample."""
        made = InputStatistics(0)
        made.tokens = self.tokens
        made.hessian = self.hessian
        if len(self.hessian):
            made.hessian = self.hessian / scales / scales[:, None]
        return made

    @cached_property
    def order(self) -> torch.Tensor:
        """Inputs int64 [K] from the one with most energy to the one with least."""
        return self.hessian.diagonal().argsort(descending=True, stable=True)

    @cached_property
    def factor(self) -> torch.Tensor:
        """The upper Cholesky factor U float32 [K, K] of H⁻¹ = Uᵀ U, inputs in ``order``.

        Damping grows until H can be inverted, so that inputs that never occur, or always together, do no harm.
        Raises EdgepeftError where the inputs weren't finite.
        """
        matrix = self.hessian[self.order][:, self.order]
        if not all_finite(matrix):
            raise EdgepeftError("the model's activations are not finite on the calibration data")
        mean = float(matrix.diagonal().mean()) or 1.0
        damping = DAMPING
        while True:
            damped = matrix.clone()
            damped.diagonal().add_(damping * mean)
            lower, failed = torch.linalg.cholesky_ex(damped)
            if not failed:
                inverse = torch.cholesky_inverse(lower)
                upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
                if not failed:
                    return upper
            damping *= 10

    @cached_property
    def importance(self) -> torch.Tensor:
        """How much an error in each weight costs once those after it have made up for it, float32 [K]."""
        importance = torch.empty(self.hessian.shape[0])
        importance[self.order] = self.factor.diagonal() ** -2
        return importance


class InputWatcher:
    """Statistics of what modules read, in ``found`` by their names; those that read the same tensor share one."""

    def __init__(
        self, modules: Mapping[str, Any], *, moments: bool = True, sample_every: int = 0
    ) -> None:
        """``moments`` and ``sample_every`` as of ``InputStatistics``."""
        self.found: dict[str, InputStatistics] = {}
        self._modules = modules
        self._moments, self._sample_every = moments, sample_every
        self._seen: dict[int, tuple[torch.Tensor, InputStatistics]] = {}
        self._mask = torch.empty(0)

    @contextlib.contextmanager
    def watching(self) -> Iterator[Self]:
        """Look on while the modules run."""
        hooks = [
            module.register_forward_pre_hook(
                lambda module, arguments, name=name: self._note(name, arguments)
            )
            for name, module in self._modules.items()
        ]
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()

    def begin(self, mask: torch.Tensor) -> None:
        """The next pass is about to run; ``mask`` bool [B, T] says which of its inputs [B, T, K] count.

        Inputs of another shape are no tokens', as DeBERTa's positions, and count all.
        """
        self._seen.clear()
        self._mask = mask

    def _note(self, name: str, arguments: tuple[torch.Tensor, ...]) -> None:
        (value,) = arguments
        if id(value) in self._seen:
            self.found.setdefault(name, self._seen[id(value)][1])
            return
        if name not in self.found:
            self.found[name] = InputStatistics(
                value.shape[-1], moments=self._moments, sample_every=self._sample_every
            )
        statistics = self.found[name]
        # The tensor is kept until the pass is over, so that its identity stays its own.
        self._seen[id(value)] = (value, statistics)
        tokens = value.shape[:-1] == self._mask.shape
        statistics.add(value[self._mask] if tokens else value.flatten(0, -2))
