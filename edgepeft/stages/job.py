"""What a stage is: a function from typed settings and input folders to an output folder and a typed result."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from edgepeft.events import Events
from edgepeft.runs.folder import read_manifest


class StageSettings(BaseModel):
    """What a kind of stage reads; every value is there, whatever the recipe leaves out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    KEYLESS: ClassVar[Mapping[str, Any]] = {}
    """Settings that don't change what comes out, in the form of pydantic's ``exclude``."""

    def identity(self) -> dict[str, Any]:
        """JSON form of what enters the stage's key."""
        return self.model_dump(mode="json", exclude=dict(self.KEYLESS))


class StageResult(BaseModel):
    """What a kind of stage says of its output, for later stages and the report: the manifest's ``result``."""

    # A run of another version of edgepeft may say more, or less where a field has a default.
    # A measure that is no number must stay one, for its gate to miss.
    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="constants")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The result of a finished stage. Raises FileNotFoundError where there is none in ``folder``."""
        manifest = read_manifest(folder)
        if manifest is None:
            raise FileNotFoundError(f"{folder} holds no finished stage")
        return cls.model_validate(manifest["result"])

    def as_dict(self) -> dict[str, Any]:
        """JSON form, as manifests keep it."""
        return self.model_dump(mode="json")


S_co = TypeVar("S_co", bound=StageSettings, covariant=True)


@dataclass(frozen=True)
class Job(Generic[S_co]):
    """What a stage gets to work with.

    ``inputs`` are finished folders or files; ``out`` is an empty folder to fill; ``scratch`` survives a killed
    attempt, so that the next one goes on from there.
    """

    settings: S_co
    inputs: Mapping[str, Path]
    out: Path
    scratch: Path
    events: Events

    def template(self, chosen: str) -> str:
        """The prompt template to use: a mode by name, or the file that the plan found for ``chosen``."""
        return str(self.inputs["template"]) if "template" in self.inputs else chosen


StageFunction = Callable[[Job[Any]], StageResult]
"""Its annotations say which settings it reads: ``def run(job: Job[MergeSettings]) -> MergeResult``."""


def settings_for(function: StageFunction, values: Mapping[str, Any]) -> StageSettings:
    """Settings of the model that a stage function is annotated with, from their JSON form.

    Raises TypeError for a function that is not annotated so.
    """
    hint = typing.get_type_hints(function).get("job")
    if typing.get_origin(hint) is not Job:
        raise TypeError(f"{function}: a stage function takes job: Job[Settings]")
    (model,) = typing.get_args(hint)
    settings: StageSettings = model.model_validate(dict(values))
    return settings


@dataclass(frozen=True)
class Stage:
    """One step of a plan.

    ``function`` is ``package.module:name``, imported only in the stage's own process. ``inputs`` name earlier
    stages; ``files`` are paths from outside with the digest that stands for their content. ``key`` identifies
    the output: the same key means the same work. ``final`` is where the output goes.
    """

    name: str
    kind: str
    function: str
    settings: StageSettings
    inputs: Mapping[str, str]
    files: Mapping[str, tuple[Path, str]]
    key: str
    final: Path
    scratch: Path
