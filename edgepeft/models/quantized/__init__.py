"""Checkpoints whose weights are rounded already, known from their headers: one file a format, and this table.

A format is a function that reads the configuration and the headers of a checkpoint, without torch, and answers
with its rounded weights, each of which can undo its own rounding in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgepeft.errors import InputError
from edgepeft.models.quantized import awq, bitsandbytes, compressed_tensors, fp8, gptq
from edgepeft.models.quantized.stored import Rounded, Stored, Tensors
from edgepeft.models.quantized.weight import QuantizedWeight

__all__ = ["FORMATS", "QuantizedWeight", "Rounded", "read_quantized"]

FORMATS: Mapping[str, Callable[[Stored], Rounded]] = {
    "awq": awq.read,
    "bitsandbytes": bitsandbytes.read,
    "compressed-tensors": compressed_tensors.read,
    "fp8": fp8.read,
    "gptq": gptq.read,
}
"""Readers by ``quantization_config.quant_method``."""
_MEND = "start from the full-precision checkpoint"


def read_quantized(path: Path, config: Mapping[str, Any], tensors: Tensors) -> Rounded | None:
    """What is rounded in the checkpoint ``path``, None where its configuration speaks of no rounding.

    ``tensors`` are its files' and headers'. Raises InputError for formats that are unknown or half described, and
    tensors that are missing or contradict each other.
    """
    said = config.get("quantization_config", config.get("compression_config"))
    if said is None or said == {}:
        return None
    where = f"{path / 'config.json'}: quantization_config"
    if not isinstance(said, Mapping):
        raise InputError(f"{where}: is no mapping; {_MEND}")
    method = said.get("quant_method")
    if method is None and (said.get("load_in_4bit") or said.get("load_in_8bit")):
        # transformers did not write the method in its first releases with bitsandbytes.
        method = "bitsandbytes"
    if method is None:
        raise InputError(
            f"{where}.quant_method: is missing, so nothing says how to read the weights; {_MEND}"
        )
    if method not in FORMATS:
        raise InputError(
            f"{where}.quant_method: {method} is not supported; supported: {', '.join(FORMATS)}; {_MEND}"
        )
    return FORMATS[str(method)](Stored(path, str(method), said, tensors))
