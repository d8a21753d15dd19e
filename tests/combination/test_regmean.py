"""Adapters fitted together: the least squares that a solver finds, and what needs no compromise kept whole."""

from __future__ import annotations

import pytest
import torch

from edgepeft.combination import regmean as regression
from edgepeft.combination.methods import Combination, check_combination
from edgepeft.combination.regmean import fit
from edgepeft.errors import InputError
from edgepeft.merging.lora import LoraFactors

IN, OUT = 12, 7


def adapter(seed: int, rank: int, scaling: float, name: str = "m") -> LoraFactors:
    made = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rank, IN, generator=made), torch.randn(OUT, rank, generator=made)
    return LoraFactors({name: (a, b)}, scaling)


def moments(inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"m": inputs.T @ inputs / len(inputs), "other": inputs.T @ inputs / len(inputs)}


def test_the_change_is_that_of_least_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against torch's own solver, over the inputs of both tasks under each other."""
    monkeypatch.setattr(regression, "SHRINKAGE", 0.0)
    monkeypatch.setattr(regression, "FLOOR", 0.0)
    torch.manual_seed(0)
    inputs = [torch.randn(40, IN), 3 * torch.randn(60, IN) + 1]
    adapters, weights = [adapter(1, 2, 2.0), adapter(2, 3, 0.5)], [1.0, 0.25]
    found = fit(adapters, weights, [moments(one) for one in inputs])
    assert found.rank == 5
    scales = [(w / len(x)) ** 0.5 for w, x in zip(weights, inputs, strict=True)]
    left = torch.cat([s * x for s, x in zip(scales, inputs, strict=True)])
    right = torch.cat(
        [s * x @ a.delta("m").T for s, x, a in zip(scales, inputs, adapters, strict=True)]
    )
    wanted = torch.linalg.lstsq(left.double(), right.double()).solution.T.float()
    torch.testing.assert_close(found.delta("m"), wanted, rtol=1e-3, atol=1e-3)


def test_tasks_that_never_meet_lose_nothing() -> None:
    """Where the tasks' inputs have nothing in common, each adapter's outputs are its own, but for the damping."""
    torch.manual_seed(0)
    first, second = torch.randn(50, IN), torch.randn(50, IN)
    first[:, IN // 2 :] = 0
    second[:, : IN // 2] = 0
    adapters = [adapter(1, 2, 1.0), adapter(2, 2, 1.0)]
    found = fit(adapters, [1.0, 1.0], [moments(first), moments(second)])
    added = adapters[0].delta("m") + adapters[1].delta("m")
    for inputs, own in zip((first, second), adapters, strict=True):
        wanted = inputs @ own.delta("m").T
        torch.testing.assert_close(inputs @ found.delta("m").T, wanted, rtol=2e-3, atol=2e-2)
    assert not torch.allclose(found.delta("m"), added, atol=0.1)


def test_an_input_far_above_the_others_takes_nothing_from_them() -> None:
    """Some models have single channels of squares a million times the rest; equal adapters stay what they are."""
    torch.manual_seed(0)
    inputs = torch.randn(200, IN)
    inputs[:, 3] *= 1e3
    one = adapter(1, 2, 1.0)
    found = fit([one, one], [1.0, 1.0], [moments(inputs), moments(inputs)])
    torch.testing.assert_close(found.delta("m"), one.delta("m"), rtol=1e-3, atol=1e-3)


def test_an_adapter_that_leaves_a_module_alone_wants_it_unchanged() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(50, IN), torch.randn(50, IN)
    adapters = [adapter(1, 2, 1.0), adapter(2, 2, 1.0, "other")]
    found = fit(adapters, [1.0, 1.0], [moments(first), moments(second)])
    assert set(found.factors) == {"m", "other"}
    assert found.rank == 2
    halved = found.delta("m").norm() / adapters[0].delta("m").norm()
    assert 0.3 < halved < 0.7


def test_weights_are_importance_and_so_positive() -> None:
    torch.manual_seed(0)
    first, second = moments(torch.randn(50, IN)), moments(torch.randn(50, IN))
    adapters = [adapter(1, 2, 1.0), adapter(2, 2, 1.0)]
    even, twice, first_counts = (
        fit(adapters, weights, [first, second]).delta("m")
        for weights in ([1.0, 1.0], [2.0, 2.0], [1000.0, 1.0])
    )
    torch.testing.assert_close(even, twice)
    own = adapters[0].delta("m")
    assert (first_counts - own).norm() < 0.05 * (even - own).norm()
    with pytest.raises(InputError, match="every weight must be above 0"):
        check_combination(Combination("regmean", (1.0, -1.0)), 2, rows=True)


def test_an_input_that_never_occurs_is_no_trouble() -> None:
    inputs = torch.zeros(20, IN)
    inputs[:, 0] = 1
    found = fit(
        [adapter(1, 2, 1.0), adapter(2, 2, 1.0)], [1.0, 1.0], [moments(inputs), moments(inputs)]
    )
    assert torch.isfinite(found.delta("m")).all()
