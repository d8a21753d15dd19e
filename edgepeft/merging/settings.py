"""What stages read that work on a base and its adapter, merged or apart."""

from __future__ import annotations

from pydantic import Field

from edgepeft.adapters.provenance import TrainingGrid
from edgepeft.checkpoints.base_stage import BaseResult
from edgepeft.config.sections import Merge
from edgepeft.stages.job import StageResult, StageSettings


class FrozenBase(StageSettings):
    """How the base lay under adapters that are swapped: ``quantized`` names the weights that were on ``grid``,
    None standing for every linear layer.
    """

    grid: TrainingGrid = Field(default_factory=TrainingGrid)
    quantized: tuple[str, ...] | None = None


def on_stored_grid(facts: BaseResult, frozen: FrozenBase) -> FrozenBase:
    """``frozen``, where the base was rounded to 4 bits before it came: as it came, with the scales it has."""
    if facts.grid is None or frozen.grid.kind not in ("nf4", "fp4"):
        return frozen
    grid = TrainingGrid.from_dict(
        {"kind": facts.grid, "block_size": facts.block_size, "double_quant": False}
    )
    return FrozenBase(grid=grid, quantized=facts.on_grid)


class AdapterSettings(StageSettings):
    """Which weights a stage works on: base and adapter as ``merge`` says, or with ``frozen`` the base alone."""

    merge: Merge = Field(default_factory=Merge)
    frozen: FrozenBase | None = None


class MergeResult(StageResult):
    """How many tensors the merged checkpoint has."""

    tensors: int
