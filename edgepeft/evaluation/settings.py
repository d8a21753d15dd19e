"""What the stages read that prove a bundle: witness, float graph, reference and verification."""

from __future__ import annotations

from pydantic import Field

from edgepeft.config.sections import Data
from edgepeft.evaluation.execution import Execution
from edgepeft.export.settings import ExportSettings
from edgepeft.merging.settings import AdapterSettings
from edgepeft.models.tasks import GENERATION, Task
from edgepeft.stages.job import StageSettings


class MeasuredSettings(AdapterSettings):
    """A model that is asked about test rows, which are read as ``data`` says."""

    task: Task = GENERATION
    data: Data = Field(default_factory=Data)


class WitnessSettings(MeasuredSettings):
    """The model as its makers load it: with ``frozen`` an adapter on the base that a hot-swap bundle serves."""


class ReferenceSettings(MeasuredSettings):
    """The unmerged adapter on the base it was trained on."""


class FloatGraphSettings(StageSettings):
    """The exporter, by name, and what it is handed for the float form of a bundle's graph."""

    exporter: str
    export: ExportSettings


class VerifySettings(StageSettings):
    """Who runs the bundle."""

    execution: Execution
