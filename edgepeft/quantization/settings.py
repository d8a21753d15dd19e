"""What the quantize stage reads, and what it says of rounded weights."""

from __future__ import annotations

from edgepeft.calibration.settings import CalibratedSettings
from edgepeft.stages.job import StageResult


class QuantizeSettings(CalibratedSettings):
    """How weights are rounded: linear layers to ``bits``.

    ``eight_bit_inputs`` says whether products round what they are multiplied with, for budgets and smoothing.
    """

    bits: int = 4
    eight_bit_inputs: bool = False


class QuantizeResult(StageResult):
    """How linear layers, head and embedding are kept, in words, and the bytes of codes.

    ``tied`` says whether head and embedding are one; ``divergence`` was measured for bounds on it, in nats per
    token by kind of text; ``layer_errors`` holds each layer's error on the calibration data, None without
    calibration.
    """

    algorithm: str | None
    linear: str
    head: str
    embedding: str
    tied: bool
    bytes: int
    divergence: dict[str, float] | None = None
    layer_errors: tuple[float, ...] | None = None
