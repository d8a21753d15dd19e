"""Building a fleet: its cells planned, their tasks carried out, each cell sealed and judged on its own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepeft.config.loader import RecipeFile
from edgepeft.config.matrix import Cell, cells_of
from edgepeft.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_GATE,
    EXIT_INTERRUPTED,
    EXIT_MISSING,
    EXIT_USAGE,
    EdgepeftError,
    InterruptedRun,
)
from edgepeft.events import Event, Events, Sink, discard
from edgepeft.fleet.scheduling import Course, Crew, run_tasks
from edgepeft.fleet.tasks import CellPlan, Fleet, plan_fleet
from edgepeft.pipeline.build import BuildResult, check_place, check_rows, collect, keep_split
from edgepeft.pipeline.execute import peak_memory
from edgepeft.pipeline.record import Record, recorded
from edgepeft.pipeline.resources import disk_of
from edgepeft.pipeline.tracking import report_figures
from edgepeft.runs.folder import RunFolder
from edgepeft.runs.index import read_run
from edgepeft.stages.pool import Workers

SEVERITY = (EXIT_DONE, EXIT_GATE, EXIT_MISSING, EXIT_USAGE, EXIT_FAILED, EXIT_INTERRUPTED)
"""Exit statuses from best to worst: a bundle that missed a gate is there, one whose stage failed is not."""


@dataclass
class CellResult:
    """What became of a cell. ``state``: done, gate missed, failed or interrupted."""

    cell: Cell
    state: str
    exit_status: int
    error: str | None = None
    adapter: Path | None = None
    merged: Path | None = None
    bundle: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON form, paths absolute."""
        return {
            "cell": self.cell.name,
            "choices": dict(self.cell.choices),
            "target": self.cell.target,
            "recipe": self.cell.recipe.digest(),
            "state": self.state,
            "exit_status": self.exit_status,
            "error": self.error,
            "adapter": str(self.adapter) if self.adapter else None,
            "merged": str(self.merged) if self.merged else None,
            "bundle": self.bundle,
        }


@dataclass
class FleetResult:
    """What a fleet's build made; ``as_dict`` is what ``build --json`` prints for a recipe with a matrix."""

    run: Path
    cells: list[CellResult] = field(default_factory=list)
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    stages: dict[str, int] = field(default_factory=dict)

    @property
    def exit_status(self) -> int:
        """That of the worst cell."""
        return max((cell.exit_status for cell in self.cells), key=SEVERITY.index, default=EXIT_DONE)

    def as_dict(self) -> dict[str, Any]:
        """JSON form, paths absolute; ``bundles`` are the cells', listed as a build without a matrix does."""
        return {
            "run": str(self.run),
            "seconds": round(self.seconds, 2),
            "peak_memory_bytes": self.peak_memory_bytes,
            "stages": self.stages,
            "cells": [cell.as_dict() for cell in self.cells],
            "bundles": [
                {**cell.bundle, "cell": cell.cell.name} for cell in self.cells if cell.bundle
            ],
        }


def build_fleet(
    recipe: RecipeFile,
    cells: Sequence[Cell],
    out: Path,
    crew: Crew,
    *,
    until: str = "verify",
    fresh: bool = False,
    force: bool = False,
    sink: Sink = discard,
) -> FleetResult:
    """Carry out cells of a recipe up to the stages of kind ``until`` in the run folder ``out``.

    What fails is in the result and stops no other cell. Raises EdgepeftError and its subclasses where nothing can
    be begun, InterruptedRun on Ctrl-C; the same call goes on from there.
    """
    run = RunFolder(out.resolve())
    fleet = plan_fleet(cells, run, until=until)
    needed = disk_of((task.plan, task.stage) for task in fleet.tasks)
    check_place(run, fleet.plans, needed, force=force)
    started = time.monotonic()
    with run.locked():
        if fresh:
            run.clear()
        everything = cells_of(recipe)
        earlier = _earlier(run, everything, cells)
        targets = list(dict.fromkeys(cell.target for cell in everything))
        names = [cell.name for cell in everything]
        record = Record.start(run, recipe, _models(fleet), targets, cells=names)
        sink = _one_at_a_time(recorded(run.events, sink))
        _announce(fleet, Events("build", sink))
        result = FleetResult(run.path)
        try:
            with crew.at(run):
                course = run_tasks(fleet, crew, _Vetter(sink), sink)
            result.cells = [_settled(one, course) for one in fleet.cells]
            _report(fleet, result, sink)
            result.seconds = time.monotonic() - started
            done = [*course.reused, *course.finished]
            result.peak_memory_bytes = max((peak_memory(t.stage) for t in done), default=0)
            result.stages = {"built": len(course.finished), "reused": len(course.reused)}
            result.stages["shared"] = sum(len(task.cells) > 1 for task in done)
        except BaseException as error:
            record.fail(error)
            raise
        _record(record, result, earlier)
    if course.interrupted:
        raise InterruptedRun("interrupted; run the same command to resume")
    return result


def _models(fleet: Fleet) -> str:
    return ", ".join(dict.fromkeys(plan.resolved.base_name for plan in fleet.plans))


def _announce(fleet: Fleet, events: Events) -> None:
    events.emit(
        "planned",
        stages=[task.label for task in fleet.tasks],
        cells={cell.name: cell.cell.target for cell in fleet.cells},
    )
    for note in dict.fromkeys(note for plan in fleet.plans for note in plan.notes):
        events.warning(note)
    for one in fleet.cells:
        if one.error is not None:
            events.emit("failed", stage=one.name, cells=[one.name], error=str(one.error))


class _Vetter:
    """Looks the rows of cells over; cells that read the same rows alike are looked over once."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._known: dict[str, EdgepeftError | None] = {}

    def __call__(self, one: CellPlan) -> EdgepeftError | None:
        plan = one.plan
        assert plan is not None
        recipe = plan.resolved.recipe
        seen = [plan.stage("base").key, recipe.data.model_dump(mode="json"), recipe.adapter is None]
        key = json.dumps(seen)
        if key not in self._known:
            variant = "/".join(one.cell.choices.values())
            events = Events(f"{variant}/data" if variant else "data", self._sink)
            try:
                check_rows(plan, events)
                keep_split(plan)
                self._known[key] = None
            except EdgepeftError as error:
                self._known[key] = error
        return self._known[key]


def _settled(one: CellPlan, course: Course) -> CellResult:
    """Seal what a cell has made, if all of it is there, and say how it went."""
    error = course.errors.get(one.name)
    if error is None and one.plan is not None:
        done = {task.stage.final for task in (*course.reused, *course.finished)}
        if any(stage.final not in done for stage in one.plan.stages):
            return CellResult(one.cell, "interrupted", EXIT_INTERRUPTED)
        found = BuildResult(run=one.plan.run.path)
        try:
            collect(one.plan, found)
        except EdgepeftError as caught:
            error = caught
        else:
            missed = found.failed_gates
            return CellResult(
                one.cell,
                "gate missed" if missed else "done",
                EXIT_GATE if missed else EXIT_DONE,
                error="; ".join(missed) or None,
                adapter=found.adapter,
                merged=found.merged,
                bundle=next(iter(found.bundles), None),
            )
    assert error is not None
    return CellResult(one.cell, "failed", error.exit_status, error=str(error))


def _report(fleet: Fleet, result: FleetResult, sink: Sink) -> None:
    """Send each bundle's figures to the trackers of its training."""
    with Workers() as workers:
        for one, cell in zip(fleet.cells, result.cells, strict=True):
            if one.plan is not None and cell.bundle is not None:
                report_figures(one.plan, [cell.bundle], workers, sink)


def _one_at_a_time(sink: Sink) -> Sink:
    """A sink that several threads may send to."""
    turn = threading.Lock()

    def send(event: Event) -> None:
        with turn:
            sink(event)

    return send


def _earlier(
    run: RunFolder, everything: Sequence[Cell], built: Sequence[Cell]
) -> list[dict[str, Any]]:
    """What the run's record has of cells that are not built now and would be as they were, had they been."""
    names = {cell.name for cell in built}
    others = {cell.name: cell for cell in everything if cell.name not in names}
    result = read_run(run.path).get("result")
    known = (result.get("cells") or []) if isinstance(result, dict) else []
    return [
        one
        for one in known
        if one
        and one.get("cell") in others
        and one.get("recipe") == others[one["cell"]].recipe.digest()
        and one.get("exit_status") in SEVERITY
        and (not one.get("bundle") or Path(one["bundle"].get("path") or "").is_dir())
    ]


def _record(record: Record, result: FleetResult, earlier: Sequence[Mapping[str, Any]]) -> None:
    """Finish the run's record: cells that were not built now stand there as they did."""
    found = result.as_dict()
    cells = [*found["cells"], *earlier]
    bundles = [{**one["bundle"], "cell": one["cell"]} for one in cells if one["bundle"]]
    worst = max((one["exit_status"] for one in cells), key=SEVERITY.index, default=EXIT_DONE)
    failed = [one for one in cells if one["state"] == "failed"]
    error = {"error": f"{failed[0]['cell']}: {failed[0]['error']}"} if failed else {}
    record.finish(_state(worst), result={**found, "cells": cells, "bundles": bundles}, **error)


def _state(exit_status: int) -> str:
    """A run's state in words."""
    words = {EXIT_DONE: "done", EXIT_GATE: "gate missed", EXIT_INTERRUPTED: "interrupted"}
    return words.get(exit_status, "failed")
