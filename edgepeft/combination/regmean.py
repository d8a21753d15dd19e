"""Adapters fitted together on what each task sends through their layers (RegMean, https://arxiv.org/abs/2212.09849).

Take a module that adapter i changes by D_i = B_i A_i, and the inputs x of task i with second moments
G_i = E[x xᵀ]. The change nearest to every adapter's own on its own task, of least Σ w_i E_i |D x - D_i x|², is
D = (Σ w_i D_i G_i) (Σ w_j G_j)⁻¹. It is the sum of B_i A'_i with A'_i = w_i A_i G_i (Σ w_j G_j)⁻¹, so what is
fitted needs no more rank than the adapters side by side, and nothing is cut off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from edgepeft.combination.combine import module_shapes
from edgepeft.merging.lora import LoraFactors

SHRINKAGE = 0.1
"""Share of the moments off the diagonal that is left out, as in the paper: few rows say little about pairs."""
FLOOR = 1e-10
"""The least that a diagonal moment may be, as a share of the largest one."""

Moments = Mapping[str, torch.Tensor]
"""By module name, E[x xᵀ] float32 [in, in] of a task's inputs."""


def fit(
    adapters: Sequence[LoraFactors], weights: Sequence[float], moments: Sequence[Moments]
) -> LoraFactors:
    """One LoRA out of several, of the modules whose inputs on each one's task are in ``moments``.

    ``weights``, all above 0, say how much each task's error counts. An adapter that leaves a module alone wants
    it unchanged. Raises InputError where two adapters disagree about a module's shape.
    """
    # Modules that read the same inputs share their moments, and so what takes longest.
    groups: dict[tuple[int, ...], list[str]] = {}
    for name in module_shapes(adapters):
        if name in moments[0]:
            groups.setdefault(tuple(id(one[name]) for one in moments), []).append(name)
    fitted: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for names in groups.values():
        own = [
            weight * _shrunk(one[names[0]]) for weight, one in zip(weights, moments, strict=True)
        ]
        inverse = _inverse(torch.stack(own).sum(0))
        fitted |= {name: _fitted(name, adapters, own, inverse) for name in names}
    return LoraFactors(fitted, 1.0)


def _fitted(
    name: str,
    adapters: Sequence[LoraFactors],
    own: Sequence[torch.Tensor],
    inverse: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B of a module, given each task's weighed moments and the inverse of their sum."""
    parts = [
        (adapter.factors[name][0] @ mine @ inverse, adapter.scaling * adapter.factors[name][1])
        for adapter, mine in zip(adapters, own, strict=True)
        if name in adapter.factors
    ]
    return torch.cat([a for a, _ in parts]), torch.cat([b for _, b in parts], dim=1)


def _inverse(moments: torch.Tensor) -> torch.Tensor:
    # Inputs that never occur are no one's, so their share may as well be nothing. The floor lies far below the
    # others, for a single channel may be a million times as large as the rest.
    moments.diagonal().clamp_(min=FLOOR * (float(moments.diagonal().max()) or 1.0))
    return torch.cholesky_inverse(torch.linalg.cholesky(moments.double())).float()


def _shrunk(moments: torch.Tensor) -> torch.Tensor:
    shrunk = (1 - SHRINKAGE) * moments
    shrunk.diagonal().add_(SHRINKAGE * moments.diagonal())
    return shrunk
