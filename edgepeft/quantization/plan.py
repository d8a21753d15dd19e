"""What a quantize stage did with each weight: the part of its output that is read without tensors."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from edgepeft.adapters.provenance import TrainingGrid
from edgepeft.quantization.grids import IntGrid


class RoundedWeight(BaseModel):
    """A weight [N, K] on a grid: ours, or for lossless targets the one of training.

    ``half_scales`` says whether every scale is a float16 number; ``rank`` is that of the factors that lie beside
    the codes, 0 for none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[int, int]
    grid: IntGrid | TrainingGrid
    half_scales: bool = False
    rank: int = 0


class BudgetEntry(BaseModel):
    """What a budget chose for weights that are kept alike: their grid (None: half precision), the bytes they take
    and the KL divergence that is expected of them, in nats per token by kind of text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: tuple[str, ...]
    grid: IntGrid | None
    bytes: int
    predicted_kl: dict[str, float]


class QuantizationPlan(BaseModel):
    """The weights that lie on grids, by name, and how the others are kept.

    ``half`` are stored in half precision; ``head`` and ``embedding`` are names of weights. ``budget`` says, of
    grids that were chosen layer by layer, what each unit takes and is expected to cost. ``layer_errors`` are the
    layers' errors on calibration data, None without it; ``smoothed`` counts the products whose inputs were
    smoothed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: str | None
    weights: dict[str, RoundedWeight]
    half: tuple[str, ...] = ()
    head: str
    embedding: str
    budget: tuple[BudgetEntry, ...] | None = None
    layer_errors: tuple[float, ...] | None = None
    smoothed: int = 0
