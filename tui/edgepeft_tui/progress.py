"""A build's events folded into what a screen shows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from edgepeft.data.report_line import describe_data
from edgepeft.utils.quantities import duration, megabytes
from edgepeft_tui.run_files import Size, is_number

CURVES = {"loss": "loss", "eval_loss": "eval loss"}
STOPPING = "stopping"
"""The message that a build sends once it has been asked to stop."""
MOST_DAMAGED = 5
"""Damaged lines of events that the log names one by one."""

Steps = Annotated[int, Field(ge=0, le=10**12)]


class Event(BaseModel):
    """An event as the screens rely on it; one of another form is damaged."""

    model_config = ConfigDict(strict=True, extra="ignore")

    event: str
    time: Annotated[float, Field(ge=0, le=4e9, allow_inf_nan=False)] = 0.0
    stage: str = ""
    step: Steps = 0
    total: Steps | None = None
    seconds: Size | None = None
    stages: list[str] = []
    metrics: dict[str, Any] = {}
    report: dict[str, Any] = {}
    text: str = ""
    error: str = ""


@dataclass
class StageView:
    """One stage as far as it has come. ``state``: waiting, running, done, reused, failed or stopped."""

    name: str
    state: str = "waiting"
    step: int = 0
    total: int | None = None
    seconds: float = 0.0
    began: float | None = None
    memory_bytes: int = 0

    def left(self) -> float | None:
        """Seconds left at the rate so far, None before the first step."""
        if not self.step or not self.total or self.state != "running":
            return None
        return max(0.0, self.seconds / self.step * (self.total - self.step))

    @property
    def trains(self) -> bool:
        """Whether it is the training, which saves a checkpoint when it is stopped."""
        return self.name.startswith("train")


def smoothed(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The exponential moving average of a curve, over about a fifteenth of its points."""
    weight = 2 / (max(3.0, len(points) / 15) + 1)
    found: list[tuple[int, float]] = []
    for step, value in points:
        before = found[-1][1] if found else value
        found.append((step, before + weight * (value - before)))
    return found


@dataclass
class Progress:
    """What is known of a build: stages in order, curves by metric, the latest figures, the log.

    ``planned_steps`` are those that the training will have made when it is done, ``stopping`` whether the build
    has said that it was asked to stop.
    """

    stages: dict[str, StageView] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    planned_steps: int | None = None
    figures: dict[str, float] = field(default_factory=dict)
    log: list[tuple[float, str, str]] = field(default_factory=list)
    began: float | None = None
    latest: float | None = None
    stopping: bool = False
    damaged: int = 0

    def feed(self, read: object) -> None:
        """Take one event in; events come in the order in which they were sent. Damaged ones are left out."""
        try:
            self._take(Event.model_validate(read))
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
            self.leave_out()

    def leave_out(self) -> None:
        """Note a line that is no event: the log says so of the first few, and that there are more."""
        self.damaged += 1
        if self.damaged <= MOST_DAMAGED:
            more = "; further ones are not named" if self.damaged == MOST_DAMAGED else ""
            said = f"events.jsonl: a damaged line is left out{more}"
            self._say(self.latest or 0.0, "warning", said)

    def _take(self, event: Event) -> None:
        time, name = event.time, event.stage
        self.began = time if self.began is None else self.began
        self.latest = time
        match event.event:
            case "planned":
                self.stages = {stage: StageView(stage) for stage in event.stages}
            case "started":
                stage = self._stage(name)
                stage.state, stage.began, stage.step, stage.total = "running", time, 0, None
                self._say(time, "stage", f"{name} begins")
            case "progress":
                self._advance(event)
            case "finished":
                stage = self._stage(name)
                stage.state, stage.seconds = "done", event.seconds or 0.0
                memory = event.metrics.get("peak_memory_bytes", 0)
                stage.memory_bytes = int(memory) if is_number(memory) else 0
                said = f"{name} done in {duration(stage.seconds)}, {megabytes(stage.memory_bytes)}"
                self._say(time, "stage", said)
            case "reused":
                self._stage(name).state = "reused"
                self._say(time, "stage", f"{name} unchanged, reused")
            case "failed":
                self._stage(name).state = "failed"
                self._say(time, "error", event.error)
            case "data":
                self._say(time, "data", describe_data(event.report))
            case "message" | "warning" as kind:
                self.stopping |= kind == "message" and event.text == STOPPING
                self._say(time, kind, f"{name}: {event.text}")

    def _stage(self, name: str) -> StageView:
        return self.stages.setdefault(name, StageView(name))

    def _say(self, time: float, kind: str, text: str) -> None:
        self.log.append((time, kind, text))

    def _advance(self, event: Event) -> None:
        stage = self._stage(event.stage)
        if stage.state == "waiting":
            stage.state = "running"
        stage.step, stage.total = event.step, event.total
        stage.seconds = event.seconds or 0.0
        if stage.trains and event.total:
            self.planned_steps = event.total
        for key, value in event.metrics.items():
            if not is_number(value):
                continue
            self.figures[key] = float(value)
            if key in CURVES:
                points = self.curves.setdefault(key, [])
                # A resumed training goes over the steps since its checkpoint again.
                while points and points[-1][0] >= stage.step:
                    points.pop()
                points.append((stage.step, float(value)))

    def running(self) -> StageView | None:
        """The stage at work."""
        return next((stage for stage in self.stages.values() if stage.state == "running"), None)

    def take_up(self, curves: Mapping[str, list[tuple[int, float]]], planned: int | None) -> None:
        """Put what was trained before these events began in front of them."""
        self.planned_steps = self.planned_steps or planned
        for key, points in curves.items():
            known = self.curves.get(key, [])
            earlier = [point for point in points if not known or point[0] < known[0][0]]
            if earlier:
                self.curves[key] = [*earlier, *known]

    def settle(self, state: str) -> None:
        """Say of stages what the run's own record says of the run, once its process is gone."""
        ended = "failed" if state == "failed" else "stopped"
        for stage in self.stages.values():
            if stage.state in ("running", "failed"):
                stage.state = ended
