"""What a stage reads that looks at calibration data."""

from __future__ import annotations

from pydantic import Field

from edgepeft.config.sections import Data
from edgepeft.config.target_sections import Quantize
from edgepeft.merging.settings import AdapterSettings
from edgepeft.models.tasks import GENERATION, Task


class CalibratedSettings(AdapterSettings):
    """How weights are rounded, and how calibration rows are read.

    ``quantize`` is the recipe's section for a target, with nothing left open: its algorithm is a name, its
    ``head_block_size`` a number and ``smooth`` yes or no.
    """

    task: Task = GENERATION
    quantize: Quantize = Field(default_factory=Quantize)
    data: Data = Field(default_factory=Data)
