"""GPTQ beside a published implementation, Intel Neural Compressor's for torch (neural-compressor-pt).

It is the authors' algorithm with scales fixed beforehand ("static groups"), as ours are. Given the same grid, the
same activations and the same damping both must find the same codes. They may differ where a weight lies halfway
between two codes and float32 sums taken in another order push it to either side; the weights after it in the
row then differ too. So rows are counted, and what both minimize must agree whatever the row.

The copy of Neural Compressor inside onnxruntime (1.31.1, ``neural_compressor.weight_only.gptq``) is no reference:
it reads the Cholesky factor transposed, so no error reaches the weights after it, and what it does is rounding to
nearest.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

import pytest
import torch
import transformers  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepeft.calibration.statistics import DAMPING
from edgepeft.quantization.algorithms import find_algorithm
from edgepeft.quantization.grids import BlockCodes, IntGrid
from tests.quantization.inputs import correlated, loss, statistics_of
from tests.quantization.weights import normal

ours = find_algorithm("gptq")
# It looks whether transformers is imported when it is itself, and fails where that changes later.
published = importlib.import_module("neural_compressor.torch.algorithms.weight_only.gptq")
logging.getLogger("neural_compressor").setLevel(logging.ERROR)


class OurGrid(published.Quantizer):  # type: ignore[misc,name-defined]
    """Their quantizer on our scales and zero points float32 [N, blocks]; how it rounds is its own."""

    def __init__(self, grid: IntGrid, scales: torch.Tensor, zeros: torch.Tensor) -> None:
        super().__init__()
        settings = {"dtype": "int", "bits": grid.bits, "sym": grid.symmetric, "perchannel": True}
        self.configure({**settings, "double_quant_sym": False})
        self._size, self._scales, self._zeros = grid.block_size, scales, zeros

    def find_params(self, x: torch.Tensor, **_: Any) -> None:
        """Take our scales for a stretch of columns, which is a view into the whole weight."""
        block = x.storage_offset() // self._size
        self.scale, self.zero = self._scales[:, block, None], self._zeros[:, block, None]


def theirs(weight: torch.Tensor, inputs: torch.Tensor, mine: BlockCodes) -> torch.Tensor:
    """What the published implementation makes of a weight [N, K] on the scales of a rounded one, float32."""
    zeros = mine.zero_points
    if zeros is None:
        zeros = torch.full_like(mine.scales, float(mine.grid.middle))
    implementation = published.GPTQ(torch.nn.Linear(*weight.T.shape, bias=False), weight)
    implementation.quantizer = OurGrid(mine.grid, mine.scales, zeros.float())
    implementation.add_batch(inputs, None)
    *_, rounded = implementation.fasterquant(
        # It writes into the weight that it is given.
        weight.clone(),
        percdamp=DAMPING,
        groupsize=mine.grid.block_size,
        act_order=True,
        static_groups=True,
    )
    return torch.as_tensor(rounded)


@settings(max_examples=15)
@given(
    st.builds(IntGrid, st.sampled_from([4, 8]), st.sampled_from([16, 32, 128]), st.booleans()),
    st.sampled_from([128, 384]),
    st.integers(0, 1000),
)
def test_on_one_grid_both_find_the_same_codes(grid: IntGrid, width: int, seed: int) -> None:
    weight, inputs = normal(32, width, seed=seed), correlated(600, width, seed=seed)
    mine = ours(weight, grid, statistics_of(inputs))
    wanted = theirs(weight, inputs, mine)
    rows_apart = ((wanted - mine.dequantize()).abs() > 1e-6).any(1)
    assert int(rows_apart.sum()) <= 3
    assert loss(weight, mine.dequantize(), inputs) == pytest.approx(
        loss(weight, wanted, inputs), rel=0.01
    )
