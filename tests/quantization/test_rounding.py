"""The rounding algorithms: how far a weight may move, and that onnxruntime rounds alike."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from onnxruntime.capi._pybind_state import quantize_matmul_4bits, quantize_matmul_8bits
from onnxruntime.quantization.neural_compressor.weight_only import quant_tensor_k_quant_cpu

from edgepeft.errors import InputError, MissingError
from edgepeft.quantization.algorithms import algorithm_names, check_algorithm, find_algorithm
from edgepeft.quantization.algorithms import k_quant as k_quant_module
from edgepeft.quantization.algorithms.k_quant import weighted_error
from edgepeft.quantization.grids import BlockCodes, IntGrid, into_blocks, unpack_weight
from tests.quantization.weights import BLOCK_SIZES, grids, normal, special, weights

rtn, k_quant = find_algorithm("rtn"), find_algorithm("k_quant")


def steps_off(weight: torch.Tensor, rounded: BlockCodes) -> torch.Tensor:
    """How far each weight moved, in steps of its block's scale."""
    moved = into_blocks(weight, rounded.grid) - into_blocks(rounded.dequantize(), rounded.grid)
    return moved.abs() / rounded.scales.abs()[..., None]


def by_onnxruntime(weight: torch.Tensor, grid: IntGrid) -> BlockCodes:
    """Round as onnxruntime's own quantizer for MatMulNBits does, in C++."""
    rows, width = weight.shape
    blocks = grid.blocks(width)
    padded = np.pad(weight.numpy().T, ((0, blocks * grid.block_size - width), (0, 0)))
    shapes = {**IntGrid(grid.bits, grid.block_size, False).shapes(rows, width)}
    codes, zero_points = (np.zeros(shapes[part], np.uint8) for part in ("codes", "zero_points"))
    scales = np.zeros(shapes["scales"], np.float32)
    quantize = {4: quantize_matmul_4bits, 8: quantize_matmul_8bits}[grid.bits]
    quantize(
        codes,
        np.ascontiguousarray(padded),
        scales,
        zero_points,
        grid.block_size,
        rows,
        width,
        grid.symmetric,
    )
    parts = {"codes": codes, "scales": scales, "zero_points": zero_points}
    if grid.symmetric:
        del parts["zero_points"]
    return unpack_weight(
        grid, width, {key: torch.from_numpy(value) for key, value in parts.items()}
    )


@given(weights(), grids(symmetric=False))
def test_asymmetric_rounding_moves_no_weight_by_more_than_half_a_step(
    weight: torch.Tensor, grid: IntGrid
) -> None:
    rounded = rtn(weight, grid)
    assert rounded.codes.max() <= grid.top
    assert steps_off(weight, rounded).max() <= 0.501


@given(weights(), grids(symmetric=True))
def test_symmetric_rounding_moves_a_weight_further_only_at_the_end_of_the_scale(
    weight: torch.Tensor, grid: IntGrid
) -> None:
    rounded = rtn(weight, grid)
    off = steps_off(weight, rounded)
    at_the_end = rounded.codes == grid.top
    assert off[~at_the_end].max() <= 0.501
    # The code that would mirror the extreme weight is one more than there are.
    assert off.max() <= 1.001


@given(weights(), grids())
def test_zero_stays_zero(weight: torch.Tensor, grid: IntGrid) -> None:
    weight[:, ::3] = 0.0
    assert not rtn(weight, grid).dequantize()[:, ::3].any()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize("width", [64, 160, 203])
def test_onnxruntime_rounds_to_the_same_values(
    bits: int, symmetric: bool, block_size: int, width: int
) -> None:
    grid, weight = IntGrid(bits, block_size, symmetric), normal(24, width)
    ours, theirs = rtn(weight, grid), by_onnxruntime(weight, grid)
    torch.testing.assert_close(ours.scales, theirs.scales, rtol=1e-6, atol=0)
    off = (ours.dequantize() - theirs.dequantize()).abs()
    step = theirs.scales.abs().repeat_interleave(block_size, dim=1)[:, :width]
    # A weight half-way between two codes may go either way.
    assert (off <= 1.001 * step).all()
    assert (off > 1e-6 * step).float().mean() < 0.001


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", special(32))
def test_blocks_that_are_hard_to_scale(bits: int, symmetric: bool, name: str) -> None:
    weight, grid = special(32)[name], IntGrid(bits, 32, symmetric)
    rounded = rtn(weight, grid)
    assert torch.isfinite(rounded.scales).all()
    assert steps_off(weight, rounded).max() <= (1.001 if symmetric else 0.501)
    if "constant" in name or name in ("zeros", "one weight"):
        # The largest weight of a block lies on the grid, so a block of one value loses nothing.
        torch.testing.assert_close(rounded.dequantize(), weight, rtol=1e-6, atol=0)


@given(weights(), grids(symmetric=False))
def test_k_quant_is_never_worse_than_rounding_to_nearest(
    weight: torch.Tensor, grid: IntGrid
) -> None:
    blocks = into_blocks(weight, grid)
    searched, nearest = (weighted_error(f(weight, grid), blocks) for f in (k_quant, rtn))
    assert (searched <= nearest).all()


@pytest.mark.parametrize("name", special(32))
def test_k_quant_survives_what_onnxruntimes_search_does_not(name: str) -> None:
    weight, grid = special(32)[name], IntGrid(4, 32, False)
    rounded = k_quant(weight, grid)
    assert torch.isfinite(rounded.dequantize()).all()
    # A tenth of a step of slack: the search may trade a large weight for many small ones.
    assert steps_off(weight, rounded).max() <= 0.6


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block_size", [16, 32])
def test_k_quant_takes_each_block_from_onnxruntimes_search_or_from_the_nearest(
    bits: int, block_size: int
) -> None:
    grid, weight = IntGrid(bits, block_size, False), normal(64, 5 * block_size - 3)
    ours, nearest = k_quant(weight, grid), rtn(weight, grid)
    codes, scales, zeros = quant_tensor_k_quant_cpu(
        into_blocks(weight, grid).numpy(), bits, block_size
    )
    theirs = torch.from_numpy(codes).reshape(nearest.codes.shape).to(torch.uint8)
    from_search = (ours.codes == theirs).all(-1) & (
        ours.scales == torch.from_numpy(scales).float().reshape(ours.scales.shape)
    )
    from_search &= ours.zero_points == torch.from_numpy(zeros).reshape(ours.scales.shape)
    from_nearest = (ours.codes == nearest.codes).all(-1) & (ours.scales == nearest.scales)
    assert (from_search | from_nearest).all()
    assert 0.2 < from_search.float().mean() < 0.8
    blocks = into_blocks(weight, grid)
    # What it is for: visibly less error than rounding to nearest.
    assert weighted_error(ours, blocks).sum() < 0.98 * weighted_error(nearest, blocks).sum()


@pytest.mark.parametrize("algorithm", ["rtn", "k_quant"])
def test_input_is_left_as_it_was(algorithm: str) -> None:
    weight = normal(4, 70)
    kept = weight.clone()
    find_algorithm(algorithm)(weight, IntGrid(4, 32, False))
    assert torch.equal(weight, kept)


def test_k_quant_without_onnxruntime_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "onnxruntime.quantization.neural_compressor.weight_only"
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingError, match=r"pip install 'edgepeft\[cpu,export\]'"):
        k_quant_module.ROUNDING(normal(1, 32), IntGrid(4, 32, False))


def test_unknown_algorithm_names_the_nearest_and_all() -> None:
    with pytest.raises(InputError) as caught:
        check_algorithm("k_quants")
    assert "quantize.algorithm: k_quants" in str(caught.value)
    assert "did you mean k_quant?" in str(caught.value)
    assert all(name in str(caught.value) for name in algorithm_names())


def test_checking_a_name_loads_no_torch() -> None:
    program = (
        "import sys; from edgepeft.quantization.algorithms import check_algorithm; "
        "check_algorithm('rtn'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
