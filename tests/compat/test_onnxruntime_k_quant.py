"""onnxruntime's search takes and gives what is expected of it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from onnxruntime.quantization.neural_compressor import weight_only

from edgepeft.compat.onnxruntime_k_quant import k_quant


def test_the_search_takes_blocks_bits_and_their_size() -> None:
    names = list(inspect.signature(weight_only.quant_tensor_k_quant_cpu).parameters)
    assert names[:3] == ["data", "num_bits", "group_size"]


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_times_scales_are_the_blocks(bits: int) -> None:
    blocks = np.random.default_rng(0).normal(size=(6, 3, 32)).astype(np.float32)
    codes, scales, zeros = (np.asarray(part) for part in k_quant(blocks, bits, 32))
    assert codes.size == blocks.size
    assert scales.size == zeros.size == 18
    codes = codes.reshape(blocks.shape)
    assert codes.min() >= 0
    assert codes.max() < 2**bits
    near = (codes - zeros.reshape(6, 3, 1)) * scales.reshape(6, 3, 1)
    step = np.abs(scales.reshape(6, 3, 1))
    assert np.abs(near - blocks).max() <= 2 * step.max()
    assert np.abs(near - blocks).mean() < step.mean()
