"""What codes stand for, put into a torch model: what a graph over them must compute."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgepeft.checkpoints.source import ComputedSource, TensorSource
from edgepeft.quantization.grids import unpack_weight
from edgepeft.quantization.packed_weights import QuantizedWeights


def put_codes(model: Any, quantized: Path | None) -> Any:
    """Replace a model's quantized weights by what their codes stand for, and what smoothing folded into others;
    returns the model.
    """
    if quantized is not None:
        weights = QuantizedWeights.open(quantized)
        for name, entry in weights.plan.weights.items():
            grid = weights.grid(name)
            assert grid is not None
            parts = unpack_weight(grid, entry.shape[1], weights.parts(name))
            model.get_parameter(name).data = parts.dequantize()
        if weights.folded is not None:
            for name in weights.folded.specs:
                model.get_parameter(name).data = weights.folded.load(name)
    return model


def override(source: TensorSource, values: Mapping[str, torch.Tensor]) -> TensorSource:
    """A source with some of its tensors replaced."""
    return ComputedSource(
        source.specs, lambda name: values[name] if name in values else source.load(name)
    )
