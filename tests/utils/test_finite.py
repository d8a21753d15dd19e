"""One value that is not finite is found wherever it lies, in every type that weights come in."""

from __future__ import annotations

import pytest
import torch

from edgepeft.utils.finite import all_finite


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1234, -1])
def test_one_value_is_enough(dtype: torch.dtype, value: float, place: int) -> None:
    tensor = torch.randn(64, 33).to(dtype)
    assert all_finite(tensor)
    tensor.view(-1)[place] = value
    assert not all_finite(tensor)


def test_nothing_is_finite() -> None:
    assert all_finite(torch.empty(0, 8))
