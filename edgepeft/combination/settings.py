"""What the combine stage reads, and what it says of a combination."""

from __future__ import annotations

from pydantic import Field

from edgepeft.combination.methods import Combination
from edgepeft.config.sections import Data
from edgepeft.stages.job import StageResult, StageSettings


class CombineSettings(StageSettings):
    """How adapters become one; ``rows`` of each task are read as ``data`` says where the method is fitted."""

    how: Combination
    allow_base_mismatch: bool = False
    rows: int = 0
    data: Data = Field(default_factory=Data)


class CombinedPart(StageResult):
    """An adapter of a combination: its rank, and the share of its change that becoming a LoRA lost."""

    path: str
    rank: int
    lost_in_conversion: float | None


class CombineResult(StageResult):
    """What was combined, and how; ``rank`` is the result's."""

    method: str
    weights: tuple[float, ...]
    density: float | None
    rank: int
    of: tuple[CombinedPart, ...]
