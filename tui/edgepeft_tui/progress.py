"""A build's events folded into what a screen shows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgepeft.cli.progress import describe_data, duration
from edgepeft.cli.tables import megabytes

CURVES = {"loss": "loss", "eval_loss": "eval loss"}


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
        return self.seconds / self.step * (self.total - self.step)


@dataclass
class Progress:
    """What is known of a build: stages in order, curves by metric, the latest figures, the log."""

    stages: dict[str, StageView] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    log: list[tuple[float, str, str]] = field(default_factory=list)
    began: float | None = None
    latest: float | None = None
    error: str = ""

    def feed(self, event: Mapping[str, Any]) -> None:
        """Take one event in; events come in the order in which they were sent."""
        time = float(event.get("time", 0.0))
        self.began = time if self.began is None else self.began
        self.latest = time
        name = str(event.get("stage", ""))
        match event.get("event"):
            case "planned":
                self.stages = {str(stage): StageView(str(stage)) for stage in event["stages"]}
            case "started":
                stage = self._stage(name)
                stage.state, stage.began, stage.step, stage.total = "running", time, 0, None
                self._say(time, "stage", f"{name} begins")
            case "progress":
                self._advance(name, event)
            case "finished":
                stage = self._stage(name)
                stage.state, stage.seconds = "done", float(event.get("seconds", 0.0))
                memory = event.get("metrics", {}).get("peak_memory_bytes", 0)
                stage.memory_bytes = int(memory)
                said = f"{name} done in {duration(stage.seconds)}, {megabytes(memory)}"
                self._say(time, "stage", said)
            case "reused":
                self._stage(name).state = "reused"
                self._say(time, "stage", f"{name} unchanged, reused")
            case "failed":
                self._stage(name).state = "failed"
                self._say(time, "error", str(event.get("error", "")))
            case "data":
                self._say(time, "data", describe_data(event["report"]))
            case "message" | "warning" as kind:
                self._say(time, kind, f"{name}: {event.get('text', '')}")

    def _stage(self, name: str) -> StageView:
        return self.stages.setdefault(name, StageView(name))

    def _say(self, time: float, kind: str, text: str) -> None:
        self.log.append((time, kind, text))

    def _advance(self, name: str, event: Mapping[str, Any]) -> None:
        stage = self._stage(name)
        if stage.state == "waiting":
            stage.state = "running"
        stage.step, stage.total = int(event["step"]), event.get("total")
        stage.seconds = float(event.get("seconds") or 0.0)
        metrics = event.get("metrics", {})
        for key, value in metrics.items():
            if isinstance(value, (int, float)):
                self.figures[key] = float(value)
        for key in CURVES:
            if key in metrics:
                points = self.curves.setdefault(key, [])
                # A resumed training goes over the steps since its checkpoint again.
                while points and points[-1][0] >= stage.step:
                    points.pop()
                points.append((stage.step, float(metrics[key])))

    def running(self) -> StageView | None:
        """The stage at work."""
        return next((stage for stage in self.stages.values() if stage.state == "running"), None)

    def settle(self, state: str) -> None:
        """Say of stages what the run's own record says of the run, once its process is gone."""
        ended = "failed" if state == "failed" else "stopped"
        for stage in self.stages.values():
            if stage.state in ("running", "failed"):
                stage.state = ended
