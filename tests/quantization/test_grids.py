"""Grids and their packed form: what is packed is read back, whatever the shape."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgepeft.quantization.grids import (
    BlockCodes,
    IntGrid,
    into_blocks,
    pack,
    unpack,
    unpack_weight,
)
from tests.quantization.weights import BLOCK_SIZES, grids


def random_codes(grid: IntGrid, rows: int, width: int, seed: int) -> BlockCodes:
    generator = torch.Generator().manual_seed(seed)
    blocks = grid.blocks(width)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randint(0, grid.top + 1, shape, generator=generator, dtype=torch.uint8)

    return BlockCodes(
        grid=grid,
        width=width,
        codes=draw(rows, blocks, grid.block_size),
        scales=torch.rand(rows, blocks, generator=generator) + 0.1,
        zero_points=None if grid.symmetric else draw(rows, blocks),
    )


@given(st.sampled_from([4, 8]), st.integers(1, 3), st.integers(1, 33), st.integers(0, 2**31))
def test_packing_is_undone_and_takes_no_byte_too_many(
    bits: int, rows: int, count: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2**bits, (rows, count), generator=generator, dtype=torch.uint8)
    packed = pack(codes, bits)
    assert packed.shape == (rows, -(-count * bits // 8))
    assert torch.equal(unpack(packed, bits, count), codes)


def test_the_earlier_code_lies_in_the_low_bits_and_an_odd_end_in_a_byte_of_its_own() -> None:
    assert pack(torch.tensor([[1, 2, 15]], dtype=torch.uint8), 4).tolist() == [[0x21, 0x0F]]
    assert pack(torch.tensor([[1, 2, 255]], dtype=torch.uint8), 8).tolist() == [[1, 2, 255]]


@given(grids(), st.integers(1, 4), st.integers(1, 300), st.integers(0, 2**31))
def test_parts_have_the_announced_shapes_and_are_read_back(
    grid: IntGrid, rows: int, width: int, seed: int
) -> None:
    made = random_codes(grid, rows, width, seed)
    parts = made.packed()
    assert {name: tuple(part.shape) for name, part in parts.items()} == grid.shapes(rows, width)
    back = unpack_weight(grid, width, parts)
    assert torch.equal(back.codes, made.codes)
    assert torch.equal(back.scales, made.scales)
    if grid.symmetric:
        assert back.zero_points is None
    else:
        assert torch.equal(back.zero_points, made.zero_points)
    assert torch.equal(back.dequantize(), made.dequantize())


@given(grids(), st.integers(1, 3), st.integers(1, 200), st.integers(0, 2**31))
def test_every_weight_is_its_code_less_the_zero_point_times_the_scale(
    grid: IntGrid, rows: int, width: int, seed: int
) -> None:
    made = random_codes(grid, rows, width, seed)
    values = made.dequantize()
    assert values.shape == (rows, width)
    for column in {0, width // 2, width - 1}:
        block, place = divmod(column, grid.block_size)
        zero = grid.middle if made.zero_points is None else made.zero_points[:, block].float()
        expected = (made.codes[:, block, place].float() - zero) * made.scales[:, block]
        assert torch.equal(values[:, column], expected)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_the_last_block_is_padded_with_zeros(bits: int, block_size: int) -> None:
    grid = IntGrid(bits, block_size, True)
    weight = torch.ones(2, block_size + 3)
    blocks = into_blocks(weight, grid)
    assert blocks.shape == (2, 2, block_size)
    assert grid.blocks(weight.shape[1]) == 2
    assert torch.equal(blocks.reshape(2, -1)[:, : block_size + 3], weight)
    assert not blocks[:, 1, 3:].any()


def test_json_form_is_read_back_and_ends_are_those_of_the_bits() -> None:
    for grid, top, middle in ((IntGrid(4, 32, False), 15, 8), (IntGrid(8, 128, True), 255, 128)):
        assert IntGrid.from_dict(grid.as_dict()) == grid
        assert (grid.top, grid.middle) == (top, middle)
