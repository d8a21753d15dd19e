"""Keeps the codes of 4-bit layers as they were made.

Written for bitsandbytes 0.50. Sets ``Linear4bit.support_avx512bf16_for_cpu``: on a CPU with AVX512-BF16 the
first forward pass in evaluation mode repacks a layer's weights and rounds their scales to bfloat16, and
training would go on against another base. A public switch would make this unnecessary.
"""

from __future__ import annotations

from typing import Any


def keep_packing(model: Any) -> None:
    """Keep the 4-bit layers of ``model`` from repacking themselves."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
