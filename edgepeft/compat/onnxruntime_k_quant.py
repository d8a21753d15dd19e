"""The search of k-quant grids, as onnxruntime ships it.

Written for onnxruntime 1.31. ``quant_tensor_k_quant_cpu`` lies in
``onnxruntime.quantization.neural_compressor``, beneath onnxruntime's own quantizer. The search as a public
function would make this unnecessary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def k_quant(blocks: npt.NDArray[np.float32], bits: int, block_size: int) -> tuple[Any, Any, Any]:
    """Codes, scales and zero points of ``blocks`` float32 [N, B, K]. Raises ImportError without onnxruntime."""
    from onnxruntime.quantization.neural_compressor.weight_only import quant_tensor_k_quant_cpu

    # Blocks of equal weights divide by zero in there.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        codes, scales, zero_points = quant_tensor_k_quant_cpu(blocks, bits, block_size)
    return codes, scales, zero_points
